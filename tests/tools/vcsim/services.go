package main

import (
	// What a vCenter serves beside the vSphere API: storage policies, and tags.
	_ "github.com/vmware/govmomi/pbm/simulator"
	_ "github.com/vmware/govmomi/vapi/simulator"

	"github.com/vmware/govmomi/simulator"
)

// offer has the clusters' hosts reach the networks of NSX, which the simulator makes and gives to nobody.
func offer(registry *simulator.Registry) {
	for _, network := range registry.All("OpaqueNetwork") {
		for _, entity := range registry.All("ClusterComputeResource") {
			cluster := entity.(*simulator.ClusterComputeResource)
			cluster.Network = append(cluster.Network, network.Reference())
		}
		for _, entity := range registry.All("HostSystem") {
			host := entity.(*simulator.HostSystem)
			host.Network = append(host.Network, network.Reference())
		}
	}
}
