package main

import (
	"strings"

	"github.com/vmware/govmomi/ovf"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// reading makes disks as they are to be provisioned, which the simulator by itself checks and forgets. If it branches
// it asks for the parents of a disk, too (parentRef), each before its children and for the same device. No server was
// seen to do that: the API says only that several files may be asked for.
type reading struct {
	*simulator.OvfManager
	branches bool
}

func read(registry *simulator.Registry, branches bool) {
	reference := *registry.Get(vim25.ServiceInstance).(*simulator.ServiceInstance).Content.OvfManager
	registry.Put(&reading{registry.Get(reference).(*simulator.OvfManager), branches})
}

// CreateImportSpec is the method of that name of the vSphere API.
func (m *reading) CreateImportSpec(ctx *simulator.Context, request *types.CreateImportSpec) soap.HasFault {
	answer := m.OvfManager.CreateImportSpec(ctx, request)
	body := answer.(*methods.CreateImportSpecBody)
	envelope, err := ovf.Unmarshal(strings.NewReader(request.OvfDescriptor))
	if err != nil || body.Res == nil {
		return answer
	}
	provisioning := request.Cisp.GetOvfCreateImportSpecParams().DiskProvisioning
	spec := body.Res.Returnval.ImportSpec.(*types.VirtualMachineImportSpec)
	for _, change := range spec.ConfigSpec.DeviceChange {
		device := change.GetVirtualDeviceConfigSpec().Device.GetVirtualDevice()
		if backing, ok := device.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok {
			backing.ThinProvisioned = types.NewBool(provisioning == "thin")
			backing.EagerlyScrub = types.NewBool(provisioning == "eagerZeroedThick")
		}
	}
	if !m.branches {
		return answer
	}
	files := map[string]ovf.File{}
	for _, file := range envelope.References {
		files[file.ID] = file
	}
	disks := map[string]ovf.VirtualDiskDesc{}
	named := map[string]string{}
	for _, disk := range envelope.Disk.Disks {
		disks[disk.DiskID] = disk
		named[files[*disk.FileRef].Href] = disk.DiskID
	}
	var items []types.OvfFileItem
	for _, item := range body.Res.Returnval.FileItem {
		var chain []types.OvfFileItem
		for id := named[item.Path]; id != ""; {
			disk := disks[id]
			one := item
			one.Path = files[*disk.FileRef].Href
			one.Size = int64(files[*disk.FileRef].Size)
			chain = append([]types.OvfFileItem{one}, chain...)
			id = ""
			if disk.ParentRef != nil {
				id = *disk.ParentRef
			}
		}
		items = append(items, chain...)
	}
	body.Res.Returnval.FileItem = items
	return answer
}
