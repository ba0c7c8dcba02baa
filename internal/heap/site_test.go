package heap

import "testing"

// TestNoMoreSites: beyond the most sites there are a name gives none, and known names
// their site.
func TestNoMoreSites(t *testing.T) {
	known := RegisterSite("known")
	sites.mu.Lock()
	names := sites.names
	sites.names = make([]string, MaxSites)
	sites.mu.Unlock()
	none, again := RegisterSite("one too many"), RegisterSite("known")
	sites.mu.Lock()
	sites.names = names
	sites.mu.Unlock()
	if none != 0 || again != known || known == 0 {
		t.Errorf("the site beyond the last is %d, a known one %d, was %d", none, again, known)
	}
}
