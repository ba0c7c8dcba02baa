package testkit

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/hakmem/hakmem/internal/osmem"
)

// discards returns the errors of n discards of a page, which it commits before each.
func discards(t *testing.T, n int) (errs []error) {
	t.Helper()
	size := osmem.PageSize()
	addr, err := osmem.Reserve(size)
	if err != nil {
		t.Fatal(err)
	}
	defer osmem.Release(addr, size)
	for range n {
		if err := osmem.Commit(addr, size); err != nil {
			t.Fatal(err)
		}
		errs = append(errs, osmem.Discard(addr, size))
	}
	return errs
}

// wantRefused checks the errors: 'x' stands for a refusal, 'l' for a refusal that lost the memory, and
// '.' for nil.
func wantRefused(t *testing.T, errs []error, want string) {
	t.Helper()
	var got strings.Builder
	for _, err := range errs {
		switch {
		case err == nil:
			got.WriteByte('.')
		case !errors.Is(err, osmem.ErrInjected):
			t.Fatal(err)
		case errors.Is(err, osmem.ErrDecommitted):
			got.WriteByte('l')
		default:
			got.WriteByte('x')
		}
	}
	if got.String() != want {
		t.Errorf("refused %s, want %s", got.String(), want)
	}
}

func TestRefuse(t *testing.T) {
	defer osmem.Inject(nil)
	r := Refuse(func(c Call) bool {
		if c.Place != "" {
			t.Errorf("%+v", c)
		}
		return c.Op == osmem.OpDiscard && c.Nth >= 5 // 1 reserves, 2, 4, … commit
	})
	wantRefused(t, discards(t, 5), ".xlxl")
	if got, all := r.Refused(), r.Calls(); r.Total() != 4 || got[""] != 4 || all[""] != 11 || len(r.Counting()) != 0 {
		t.Errorf("refused %v of %v, to tell %v", got, all, r.Counting())
	}
}

func TestTold(t *testing.T) {
	defer osmem.Inject(nil)
	r := RefuseAt(func() string { return "here" }, func(Call) bool { return true })
	var l osmem.Look
	_ = osmem.BeginLook(&l)
	_ = osmem.Discard(0, 0)
	_ = osmem.Commit(0, 0)
	if got, want := r.Counting(), map[string]int{"here": 1}; !maps.Equal(got, want) {
		t.Errorf("to tell %v, want %v: the commit", got, want)
	}
}

func TestRefuseAt(t *testing.T) {
	defer osmem.Inject(nil)
	place := "elsewhere"
	r := RefuseAt(func() string { return place }, func(c Call) bool { return c.Place == "here" && c.Op == osmem.OpDiscard && c.Nth == 5 })
	wantRefused(t, discards(t, 3), "...")
	place = "here"
	errs := discards(t, 3)
	wantRefused(t, errs, ".x.")
	if !strings.Contains(errs[1].Error(), "at here") {
		t.Errorf("%q does not name the place", errs[1])
	}
	if got, want := r.Refused(), map[string]int{"here": 1}; !maps.Equal(got, want) || r.Total() != 1 {
		t.Errorf("refused %v, want %v", got, want)
	}
	if got, want := r.Calls(), map[string]int{"here": 7, "elsewhere": 7}; !maps.Equal(got, want) {
		t.Errorf("calls %v, want %v", got, want)
	}
}

func TestRefuseOp(t *testing.T) {
	defer osmem.Inject(nil)
	RefuseOp(osmem.OpDiscard, func(n int) bool { return n != 2 })
	wantRefused(t, discards(t, 4), "x.xx")
}
