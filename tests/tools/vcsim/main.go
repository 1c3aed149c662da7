// Command vcsim serves govmomi's simulator of a vCenter with one host, for tests.
//
// Its options make what else tests meet: a host without vCenter, clusters, TLS, a password, and a user
// who lacks privileges, which the simulator by itself does not know.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

func main() {
	esx := flag.Bool("esx", false, "be a host without vCenter")
	clusters := flag.Int("clusters", 0, "clusters of two hosts each, besides the one host")
	datastores := flag.Int("datastores", 1, "datastores of each host")
	secure := flag.Bool("tls", false, "serve TLS, with the certificate of Go's own tests")
	login := flag.String("login", "", "NAME:PASSWORD to insist on; else anything is right")
	deny := flag.String("deny", "", "privileges that nobody has, with commas between")
	fault := flag.String("fault", "", "METHOD:FAULT, what a method answers instead of doing anything")
	cut := flag.Int64("cut", 0, "bytes after which an upload of a disk breaks off")
	cuts := flag.Int64("cuts", 1, "how many uploads break off, before the others do not")
	keep := flag.String("keep", "", "folder to store uploaded disks in")
	delta := flag.Bool("delta", false, "take disks that stand on others in a descriptor")
	plain := flag.Bool("plain", false, "serve the vSphere API alone: no tags, no storage policies")
	opaque := flag.Int("opaque", 0, "networks of NSX")
	flag.Parse()

	model := simulator.VPX()
	if *esx {
		model = simulator.ESX()
	} else {
		model.Cluster = *clusters
		model.ClusterHost = 2
		model.OpaqueNetwork = *opaque
	}
	model.Datastore = *datastores
	model.Machine = 0
	if err := model.Create(); err != nil {
		log.Fatal(err)
	}
	offer(model.Map())
	service := model.Service
	service.RegisterEndpoints = !*plain
	if *secure {
		service.TLS = new(tls.Config)
	}
	if name, password, found := strings.Cut(*login, ":"); found {
		service.Listen = &url.URL{User: url.UserPassword(name, password)}
	}
	if *deny != "" {
		limit(model.Map(), strings.Split(*deny, ","))
	}
	fail(model.Map(), strings.Split(*deny, ","), *fault)
	read(model.Map(), *delta)
	server := service.NewServer()
	if *keep != "" {
		server.Config.Handler = &keeping{handler: server.Config.Handler, folder: *keep}
	}
	if *cut > 0 {
		breaking := &cutting{handler: server.Config.Handler, bytes: *cut}
		breaking.left.Store(*cuts)
		server.Config.Handler = breaking
	}
	fmt.Println(server.URL.Host)
	select {}
}

// cutting breaks the connections of the first uploads after `bytes` of each.
type cutting struct {
	handler http.Handler
	bytes   int64
	left    atomic.Int64
}

func (c *cutting) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	if !strings.HasPrefix(request.URL.Path, "/nfc/") || c.left.Add(-1) < 0 {
		c.handler.ServeHTTP(answer, request)
		return
	}
	_, _ = io.CopyN(io.Discard, request.Body, c.bytes)
	panic(http.ErrAbortHandler)
}

// limited answers as the simulator's own manager does, except that `denied` are never granted.
type limited struct {
	*simulator.AuthorizationManager
	denied map[string]bool
}

func limit(registry *simulator.Registry, privileges []string) {
	reference := *registry.Get(vim25.ServiceInstance).(*simulator.ServiceInstance).Content.AuthorizationManager
	manager := registry.Get(reference).(*simulator.AuthorizationManager)
	wrapped := &limited{manager, map[string]bool{}}
	for _, privilege := range privileges {
		wrapped.denied[privilege] = true
	}
	registry.Put(wrapped)
}

// HasPrivilegeOnEntities is the method of that name of the vSphere API.
func (m *limited) HasPrivilegeOnEntities(request *types.HasPrivilegeOnEntities) soap.HasFault {
	var found []types.EntityPrivilege
	for _, entity := range request.Entity {
		of := types.EntityPrivilege{Entity: entity}
		for _, id := range request.PrivId {
			of.PrivAvailability = append(of.PrivAvailability,
				types.PrivilegeAvailability{PrivId: id, IsGranted: !m.denied[id]})
		}
		found = append(found, of)
	}
	return &methods.HasPrivilegeOnEntitiesBody{
		Res: &types.HasPrivilegeOnEntitiesResponse{Returnval: found},
	}
}
