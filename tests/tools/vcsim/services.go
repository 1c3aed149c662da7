package main

import (
	// What a vCenter serves beside the vSphere API: storage policies, and tags.
	_ "github.com/vmware/govmomi/pbm/simulator"
	_ "github.com/vmware/govmomi/vapi/simulator"
)
