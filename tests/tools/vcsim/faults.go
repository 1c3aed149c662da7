package main

import (
	"log"
	"reflect"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// needed are the privileges that some methods ask for (the API's reference, "Required Privileges").
var needed = map[string]string{
	"CreateFolder":       "Folder.Create",
	"CreateResourcePool": "Resource.CreatePool",
	"ImportVApp":         "VApp.Import",
	"MarkAsTemplate":     "VirtualMachine.Provisioning.MarkAsTemplate",
}

// fail has methods answer with faults instead of doing anything: those whose privilege is `denied`, and the one of
// `injected`, METHOD:FAULT in the API's names.
func fail(registry *simulator.Registry, denied []string, injected string) {
	refused := map[string]bool{}
	for _, privilege := range denied {
		refused[privilege] = true
	}
	method, name, _ := strings.Cut(injected, ":")
	kind, found := types.TypeFunc()(name)
	if injected != "" && !found {
		log.Fatalf("there is no fault %s", name)
	}
	registry.Handler = func(_ *simulator.Context, call *simulator.Method) (mo.Reference, types.BaseMethodFault) {
		if injected != "" && call.Name == method {
			fault := reflect.New(kind).Interface().(types.BaseMethodFault)
			if refusal, ok := fault.(*types.NoPermission); ok {
				refusal.Object = &call.This
			}
			return nil, fault
		}
		if privilege, found := needed[call.Name]; found && refused[privilege] {
			return nil, &types.NoPermission{Object: &call.This, PrivilegeId: privilege}
		}
		return nil, nil
	}
}
