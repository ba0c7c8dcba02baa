package engine

import "github.com/hakmem/hakmem/internal/site"

// wmaxRule returns the factor that a rule sets for a site in place of HAKMEM_W_MAX, if one does. Any
// goroutine, also entered; it takes no lock.
func wmaxRule(site.ID) (factor float64, set bool) { return 0, false }
