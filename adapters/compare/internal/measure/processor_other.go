//go:build !unix

package measure

import "time"

// processor is for systems that do not say it in this way.
func processor() (d time.Duration, known bool) { return 0, false }
