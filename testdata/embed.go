// Package testdata carries real messages for tests and for mailhaul demo.
package testdata

import "embed"

// Messages holds messages/*.eml, each with LF line ends.
//
//go:embed messages/*.eml
var Messages embed.FS
