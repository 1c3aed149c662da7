//go:build tools

// Package tools pins the programs that tests use and that are not packaged in Debian.
package tools

import (
	_ "github.com/regclient/regclient/cmd/regctl"
)
