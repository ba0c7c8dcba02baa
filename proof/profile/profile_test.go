package profile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http/httptest"
	"reflect"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/pprof/profile"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/hakmempprof"
	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// profilesOf returns Go's own heap profile and hakmem's.
func profilesOf() (gos, ours *profile.Profile, err error) {
	var b bytes.Buffer
	runtime.GC() // Go's heap profile is that of the last collection
	if err := pprof.Lookup("heap").WriteTo(&b, 0); err != nil {
		return nil, nil, err
	}
	if gos, err = profile.Parse(&b); err != nil {
		return nil, nil, fmt.Errorf("Go's own profile: %w", err)
	}
	b.Reset()
	if err := hakmempprof.WriteProfile(&b); err != nil {
		return nil, nil, err
	}
	if ours, err = profile.Parse(&b); err != nil {
		return nil, nil, fmt.Errorf("hakmem's profile: %w", err)
	}
	return gos, ours, ours.CheckValid()
}

// allocBoth allocates on Go's heap and with hakmem, on one line. It is inlined.
func allocBoth(size int) ([]byte, unsafe.Pointer) {
	return make([]byte, size), hakmem.Malloc(uintptr(size))
}

// keptByGo has what callsAllocBoth has allocated on Go's heap.
var keptByGo [][]byte

//go:noinline
func callsAllocBoth(size int) unsafe.Pointer {
	g, p := allocBoth(size)
	keptByGo = append(keptByGo, g)
	return p
}

// stackText returns a sample's stack, function by function and line by line, down to this package's last one.
func stackText(s *profile.Sample) (lines []string) {
	for _, l := range s.Location {
		for i, line := range l.Line {
			inlined := ""
			if i < len(l.Line)-1 {
				inlined = " inlined"
			}
			lines = append(lines, fmt.Sprintf("%s %s:%d%s", line.Function.Name, line.Function.Filename, line.Line, inlined))
		}
	}
	return lines
}

// find returns the only sample that allocBoth has allocated, and whose blocks have so many bytes.
func find(p *profile.Profile, size int64) (found *profile.Sample, err error) {
	for _, s := range p.Sample {
		if strings.Contains(stackText(s)[0], ".allocBoth ") && reflect.DeepEqual(s.NumLabel["bytes"], []int64{size}) {
			if found != nil {
				return nil, fmt.Errorf("two samples of %d bytes:\n%v\n%s\n%v\n%s", size, s.Value, strings.Join(stackText(s), "\n"), found.Value, strings.Join(stackText(found), "\n"))
			}
			found = s
		}
	}
	if found == nil {
		return nil, fmt.Errorf("no sample of %d bytes in\n%v", size, p)
	}
	return found, nil
}

var _ = testkit.Child("profiles side by side", profilesSideBySide)

// profilesSideBySide holds hakmem's profile against that of the running version of Go: what tools look at is the same,
// and the two can be added up.
func profilesSideBySide(string) error {
	runtime.MemProfileRate = 1
	var blocks []unsafe.Pointer
	for range 3 {
		blocks = append(blocks, callsAllocBoth(4096)) // of a size that both have
	}
	hakmem.Free(blocks[0])
	at := hakmem.MallocAt(hakmem.RegisterSite("proof site"), 100)
	defer hakmem.Free(at)
	gos, ours, err := profilesOf()
	if err != nil {
		return err
	}
	for _, x := range []struct {
		what      string
		gos, ours any
	}{
		{"types", gos.SampleType, ours.SampleType},
		{"default type", shownFirst(gos), shownFirst(ours)},
		{"period type", gos.PeriodType, ours.PeriodType},
		{"period", gos.Period, ours.Period},
	} {
		if !reflect.DeepEqual(x.gos, x.ours) {
			return fmt.Errorf("%s: Go's profile has %+v, hakmem's %+v", x.what, x.gos, x.ours)
		}
	}
	g, err := find(gos, 4096)
	if err != nil {
		return fmt.Errorf("Go's: %w", err)
	}
	o, err := find(ours, 4096)
	if err != nil {
		return fmt.Errorf("hakmem's: %w", err)
	}
	if want := []int64{3, 3 * 4096, 2, 2 * 4096}; !reflect.DeepEqual(o.Value, want) || !reflect.DeepEqual(g.Value[:2], want[:2]) {
		return fmt.Errorf("values %v and %v, want %v", g.Value, o.Value, want)
	}
	if gs, os := stackText(g), stackText(o); !reflect.DeepEqual(gs, os) {
		return fmt.Errorf("Go's stack is\n%s\nhakmem's\n%s", strings.Join(gs, "\n"), strings.Join(os, "\n"))
	}
	if !reflect.DeepEqual(g.NumLabel, o.NumLabel) || !reflect.DeepEqual(g.NumUnit, o.NumUnit) || len(o.Label) != 0 {
		return fmt.Errorf("labels: Go's %v in %v, hakmem's %v in %v and %v", g.NumLabel, g.NumUnit, o.NumLabel, o.NumUnit, o.Label)
	}
	sites := 0
	for _, s := range ours.Sample {
		if reflect.DeepEqual(s.Label, map[string][]string{"site": {"proof site"}}) {
			sites++
			if s.Value[2] != 1 || s.Value[3] != int64(hakmem.UsableSize(at)) {
				return fmt.Errorf("the site's values are %v", s.Value)
			}
		}
		if text := strings.Join(stackText(s), "\n"); strings.Contains(text, "hakmem/internal/engine") || strings.Contains(text, "github.com/hakmem/hakmem.") {
			return fmt.Errorf("functions of hakmem's own in\n%s", text)
		}
	}
	if sites != 1 {
		return fmt.Errorf("%d samples with the site", sites)
	}
	both, err := profile.Merge([]*profile.Profile{gos, ours})
	if err != nil {
		return fmt.Errorf("adding up the two: %w", err)
	}
	for i := range ours.SampleType {
		if a, b, sum := total(gos, i), total(ours, i), total(both, i); a+b != sum || b <= 0 {
			return fmt.Errorf("%s: %d and %d are %d together", ours.SampleType[i].Type, a, b, sum)
		}
	}
	for _, p := range blocks[1:] {
		hakmem.Free(p)
	}
	return nil
}

// shownFirst returns the type that go tool pprof shows unless it is asked for another: the last one, if the profile does
// not say.
func shownFirst(p *profile.Profile) string {
	if p.DefaultSampleType == "" {
		return p.SampleType[len(p.SampleType)-1].Type
	}
	return p.DefaultSampleType
}

// total returns the sum of a type's values.
func total(p *profile.Profile, i int) (sum int64) {
	for _, s := range p.Sample {
		sum += s.Value[i]
	}
	return sum
}

// needProfile skips the test where blocks have no live state, so that there is no profile.
func needProfile(t *testing.T) {
	t.Helper()
	if !engine.CheckLive {
		t.Skip("skipped: this build does not keep live state (hakmem_nolive), so it has no profile")
	}
}

func TestProfilesSideBySide(t *testing.T) {
	needProfile(t)
	testkit.InChild(t, "profiles side by side", "", "HAKMEM_PROFILE_RATE=1")
}

var _ = testkit.Child("profile as text", profileAsText)

// profileAsText compares the text with the profile.proto: the reader scales the text's samples, and has the same
// numbers then. A delta has what happened meanwhile, and what was freed meanwhile is below 0.
func profileAsText(string) error {
	var blocks []unsafe.Pointer
	for i := range 20_000 {
		blocks = append(blocks, hakmem.Malloc(uintptr(16<<(i%12))))
	}
	for _, p := range blocks[:10_000] {
		hakmem.Free(p)
	}
	ask := func(ctx context.Context, query string) (*profile.Profile, error) {
		w := httptest.NewRecorder()
		hakmempprof.Handler().ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/"+query, nil))
		if w.Code != 200 {
			return nil, errors.New(w.Body.String())
		}
		return profile.Parse(w.Body)
	}
	binary, err := ask(context.Background(), "")
	if err != nil {
		return err
	}
	text, err := ask(context.Background(), "?debug=1")
	if err != nil {
		return err
	}
	for i, name := range []string{"alloc_objects", "alloc_space", "inuse_objects", "inuse_space"} {
		for j := range text.SampleType {
			if a, b := total(binary, i), total(text, j); text.SampleType[j].Type == name && math.Abs(float64(a-b)) > 1e-3*float64(a) {
				return fmt.Errorf("%s: %d in the profile.proto, %d in the text", name, a, b)
			}
		}
	}
	if len(text.SampleType) != 4 || total(text, 1) == 0 {
		return fmt.Errorf("the text has %v", text)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, p := range blocks[10_000:] {
			hakmem.Free(p)
		}
	}()
	delta, err := ask(context.Background(), "?seconds=2")
	if <-done; err != nil {
		return err
	}
	if delta.DurationNanos < 2e9 || delta.DurationNanos > 60e9 || total(delta, 0) != 0 || total(delta, 2) > 0 {
		return fmt.Errorf("the delta lasts %d ns and has %d allocations, %d live blocks", delta.DurationNanos, total(delta, 0), total(delta, 2))
	}
	return nil
}

func TestProfileAsText(t *testing.T) {
	needProfile(t)
	testkit.InChild(t, "profile as text", "", "HAKMEM_PROFILE_RATE=4096")
}

// heldA and heldB allocate blocks, for a profile to name.
//
//go:noinline
func heldA(n int) (blocks []unsafe.Pointer) {
	for range n {
		blocks = append(blocks, hakmem.Malloc(1<<10))
	}
	return blocks
}

//go:noinline
func heldB(n int) (blocks []unsafe.Pointer) {
	for range n {
		p := hakmem.Malloc(300 << 10)
		for i := 0; i < 300<<10; i += 4 << 10 {
			*(*byte)(unsafe.Add(p, i)) = 1
		}
		blocks = append(blocks, p)
	}
	return blocks
}

var _ = testkit.Child("held profile", heldProfile)

// heldProfile frees what two functions have allocated, and expects the memory under their names, and nothing after Trim.
func heldProfile(string) error {
	read := func() (map[string]int64, error) {
		var b bytes.Buffer
		if err := hakmempprof.WriteHeldProfile(&b); err != nil {
			return nil, err
		}
		p, err := profile.Parse(&b)
		if err == nil {
			err = p.CheckValid()
		}
		if err != nil {
			return nil, err
		}
		if len(p.SampleType) != 2 || p.SampleType[0].Type != "held_objects" || p.SampleType[1].Type != "held_space" || p.SampleType[1].Unit != "bytes" || shownFirst(p) != "held_space" {
			return nil, fmt.Errorf("the types are %v, %q first", p.SampleType, shownFirst(p))
		}
		by := map[string]int64{}
		for _, s := range p.Sample {
			by[s.Location[0].Line[0].Function.Name] += s.Value[1]
		}
		return by, nil
	}
	const small, large = 20_000, 20
	hakmem.Free(hakmem.Malloc(1 << 10))
	free := func(blocks []unsafe.Pointer) {
		for _, p := range blocks {
			*(*byte)(p) = 1
			hakmem.Free(p)
		}
	}
	a, b := heldA(small), heldB(large)
	before, err := read()
	if err != nil {
		return err
	}
	free(a)
	free(b)
	after, err := read()
	if err != nil {
		return err
	}
	for _, x := range []struct {
		what        string
		least, most int64
	}{
		// More may be held than they had, as magazines take more blocks than are asked for.
		{"heldA", small << 10 * 9 / 10, small << 10 * 13 / 10},
		{"heldB", large * 300 << 10 * 9 / 10, large * 300 << 10 * 16 / 10},
	} {
		name := "github.com/hakmem/hakmem/proof/profile_test." + x.what
		if got := after[name]; before[name] != 0 || got < x.least || got > x.most {
			return fmt.Errorf("%s: %d bytes held, want 0 before its blocks are freed and %d to %d then; all: %v", x.what, got, x.least, x.most, after)
		}
	}
	hakmem.Trim()
	trimmed, err := read()
	if err != nil {
		return err
	}
	sum := int64(0)
	for _, n := range trimmed {
		sum += n
	}
	if sum > 4<<20 {
		return fmt.Errorf("after Trim %d bytes are held: %v", sum, trimmed)
	}
	return nil
}

func TestHeldProfile(t *testing.T) {
	needProfile(t)
	testkit.InChild(t, "held profile", "", "HAKMEM_PROFILE_RATE=1", "HAKMEM_KEEP=always")
}
