package hakmemvar_test

import (
	"encoding/json"
	"expvar"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/hakmemvar"
)

// byImport is whether the import of the package has published a variable.
var byImport = expvar.Get("hakmem") != nil

// published publishes the variable, once for all runs of the test.
var published = sync.OnceFunc(func() { hakmemvar.Publish("hakmem") })

func TestPublish(t *testing.T) {
	if byImport {
		t.Fatal("the import alone has published a variable")
	}
	published()
	site := hakmem.RegisterSite("hakmemvar")
	p := hakmem.MallocAt(site, 100)
	defer hakmem.Free(p)
	var got map[string]any
	if err := json.Unmarshal([]byte(expvar.Get("hakmem").String()), &got); err != nil {
		t.Fatal(err)
	}
	want := float64(hakmem.UsableSize(p))
	if sites, _ := got["site_live_bytes"].(map[string]any); sites["hakmemvar"] != want {
		t.Errorf("site_live_bytes is %v, want %v for the site", got["site_live_bytes"], want)
	}
	if live, _ := got["live_bytes"].(float64); live < want {
		t.Errorf("live_bytes is %v", got["live_bytes"])
	}
	var s hakmem.Stats
	hakmem.ReadStats(&s)
	for f := range s.Figures() {
		if values, ok := got[f.Name].(map[string]any); ok == (len(f.Labels) == 0) || ok && values[f.Labels[0].Value] == nil {
			t.Errorf("%s %v is missing: %v", f.Name, f.Labels, got[f.Name])
		}
		if len(f.Labels) > 1 {
			t.Errorf("%s has the labels %v: the variable shows the first one", f.Name, f.Labels)
		}
	}
}

// TestCoreWithoutHTTP: a program that imports hakmem alone has no HTTP server in it.
func TestCoreWithoutHTTP(t *testing.T) {
	deps := func(pkg string) []string {
		out, err := exec.Command("go", "list", "-deps", pkg).Output()
		if err != nil {
			t.Skipf("skipped: go list does not work: %v", err)
		}
		return strings.Fields(string(out))
	}
	if slices.Contains(deps("github.com/hakmem/hakmem"), "net/http") {
		t.Error("hakmem imports net/http")
	}
	if !slices.Contains(deps("github.com/hakmem/hakmem/hakmemvar"), "net/http") {
		t.Error("hakmemvar does not import net/http, so this test shows nothing")
	}
}
