package osmem

import (
	"os"
	"testing"

	"github.com/hakmem/hakmem/internal/mem"
)

// TestMappingsLeft: each page whose protection differs from that of its neighbours is a mapping.
func TestMappingsLeft(t *testing.T) {
	before, ok := MappingsLeft()
	if !ok {
		if _, err := os.ReadFile("/proc/self/maps"); err != nil {
			t.Skipf("skipped: %v", err)
		}
		t.Fatal("not known")
	}
	const n = 400
	page := PageSize()
	base, err := Reserve((n * page).Up(64 << 10))
	if err != nil {
		t.Fatal(err)
	}
	defer Release(base, (n * page).Up(64<<10))
	for i := mem.Bytes(1); i < n; i += 2 {
		if err := Commit(base.Add(i*page), page); err != nil {
			t.Fatal(err)
		}
	}
	after, ok := MappingsLeft()
	if took := before - after; !ok || took < n-10 || took > n+100 { // the runtime may map something, too
		t.Errorf("%d pages took %d mappings", n, took)
	}
}

func TestReadWhole(t *testing.T) {
	if readWhole([]byte("/nonexistent\x00"), func([]byte) { t.Error("something was read") }) {
		t.Error("a file that there is not was read")
	}
	if readWhole([]byte("/proc/self\x00"), func([]byte) {}) {
		t.Error("a directory was read")
	}
}
