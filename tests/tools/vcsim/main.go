// Command vcsim serves govmomi's simulator of a vCenter with one host, for tests.
package main

import (
	"fmt"
	"log"

	"github.com/vmware/govmomi/simulator"
)

func main() {
	model := simulator.VPX()
	model.Cluster = 0
	model.Machine = 0
	if err := model.Create(); err != nil {
		log.Fatal(err)
	}
	server := model.Service.NewServer()
	fmt.Println(server.URL.Host)
	select {}
}
