package bench

import "embed"

// Native is the C twin of this package and the script that builds it (the files of DriverFiles),
// for programs that run outside the source tree.
//
//go:embed native/driver.c native/common.h native/loops.h native/observe.h native/setup.sh
var Native embed.FS

// DriverFiles are the names of the files in Native, below "native/".
var DriverFiles = []string{"driver.c", "common.h", "loops.h", "observe.h", "setup.sh"}
