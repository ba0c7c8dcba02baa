package hakmem

import (
	"flag"
	"time"
)

// stw is for soaks: an hour of it is what a new Go version should stand once.
var stw = flag.Duration("stw", 0, "for how long the fast section is to stand a world that stops all the time (default: a number of operations)")

// soaked returns when a soak that begins now has to end, and whether there is one.
func soaked() (end time.Time, soak bool) { return time.Now().Add(*stw), *stw > 0 }
