package section

import (
	"testing"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/engine"
)

func TestTaken(t *testing.T) {
	p := hakmem.Malloc(1)
	if p == nil {
		t.Fatal(hakmem.Err())
	}
	hakmem.Free(p)
	t.Log("taken:", engine.Road.Fast)
}
