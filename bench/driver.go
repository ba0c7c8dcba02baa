package bench

import _ "embed"

// DriverSource and DriverSetup are the C twin of this package and the script
// that builds it, for programs that run outside of the source tree.
var (
	//go:embed native/driver.c
	DriverSource []byte
	//go:embed native/setup.sh
	DriverSetup []byte
)
