package offheap_test

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/hakmemtest"
	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/offheap"
)

// Tests of Map and StringMap that the model (map_model_test.go) does not make.

// wantMisuse calls do, which must panic with a MisuseError.
func wantMisuse(t *testing.T, op, kind string, do func()) {
	t.Helper()
	m, instead := testkit.PanicAs[*hakmem.MisuseError](do)
	if m == nil {
		t.Errorf("%s: %s, want *MisuseError of kind %q", op, instead, kind)
		return
	}
	if m.Op != op || m.Kind != kind || m.Late {
		t.Errorf("%s: %+v, want kind %q", op, *m, kind)
	}
	if !strings.Contains(m.Error(), "; ") {
		t.Errorf("%s: %q has no remedy", op, m.Error())
	}
}

func TestMapTypes(t *testing.T) {
	type pointers struct {
		A int
		B struct{ Name string }
	}
	mustPanicNaming(t, "a key with a string", func() { offheap.NewMap[pointers, int]() }, "pointers", "B.Name", "string")
	mustPanicNaming(t, "a value with a slice", func() { offheap.NewMap[int, []byte]() }, "[]uint8", "slice")
	mustPanicNaming(t, "a StringMap's value", func() { offheap.NewStringMap[*int]() }, "*int", "ptr")
	mustPanicNaming(t, "a zero Map", func() { new(offheap.Map[any, int]).Put(1, 2) }, "interface")
	mustPanicNaming(t, "a zero StringMap", func() { new(offheap.StringMap[string]).Put("1", "2") }, "string")
	for name, err := range map[string]error{
		"no size":      tryMap[struct{}, struct{}](struct{}{}, struct{}{}),
		"a set":        tryMap[uint16, struct{}](7, struct{}{}),
		"one entry":    tryMap[struct{}, uint8](struct{}{}, 7),
		"bytes":        tryMap[uint8, uint8](1, 2),
		"odd":          tryMap[[3]byte, [5]byte]([3]byte{1}, [5]byte{2}),
		"array":        tryMap[[2]float64, complex128]([2]float64{1, 2}, 3i),
		"large values": tryMap[int64, [100_000]byte](1, [100_000]byte{99_999: 1}),
		"large keys":   tryMap[[5000]byte, bool]([5000]byte{4999: 1}, true),
		"Refs":         tryMap[offheap.Ref[int], offheap.Ref[bool]](1, 2),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func tryMap[K, V comparable](key K, value V) error {
	m := offheap.NewMap[K, V]()
	defer m.Close()
	m.Put(key, value)
	if v, ok := m.Get(key); !ok || v != value {
		return errors.New("the value is another one")
	}
	if v := m.GetPtr(*new(K)); key != *new(K) && v != nil {
		return errors.New("the zero key is there")
	}
	for k, v := range m.All() {
		if k != key || v != value {
			return errors.New("All shows another entry")
		}
	}
	if !m.Delete(key) || m.Len() != 0 {
		return errors.New("not deleted")
	}
	return offheap.CheckMap(m)
}

func TestMapOptions(t *testing.T) {
	mustPanicNaming(t, "a negative capacity", func() { offheap.NewMap[int, int](offheap.MapOptions{Capacity: -5}) }, "NewMap", "Capacity -5")
	mustPanicNaming(t, "two options", func() { offheap.NewStringMap[int](offheap.MapOptions{}, offheap.MapOptions{}) }, "NewStringMap", "2 MapOptions")
	mustPanicNaming(t, "a site", func() { offheap.NewMap[int, int](offheap.MapOptions{Site: 60_000}) }, "60000", "RegisterSite")
	mustPanicNaming(t, "Reserve", func() { new(offheap.Map[int, int]).Reserve(-1) }, "Map.Reserve(-1)")
	mustPanicNaming(t, "Reserve", func() { new(offheap.StringMap[int]).Reserve(-1) }, "StringMap.Reserve(-1)")
	site := hakmem.RegisterSite("map test")
	m := offheap.NewStringMap[int](offheap.MapOptions{Site: site, Capacity: 5000})
	defer m.Close()
	m.Put("a key that has a block of its own", 1)
	blocks := 0
	for b := range hakmem.LiveBlocks() {
		if b.Site == site {
			blocks++
		}
	}
	if blocks < 3 { // the directory, a table, a key
		t.Errorf("%d blocks of the site", blocks)
	}
}

func TestMapHandle(t *testing.T) {
	m := new(offheap.Map[int, int])
	if v, ok := m.Get(1); v != 0 || ok || m.Delete(1) || m.Len() != 0 || m.GetPtr(1) != nil {
		t.Error("the zero Map has an entry")
	}
	m.Clear()
	for range m.All() {
		t.Error("the zero Map has an entry")
	}
	m.Put(1, 2)
	c := testkit.CopyOf(m)
	wantMisuse(t, "Map.Get", "copied map", func() { c.Get(1) })
	wantMisuse(t, "Map.Put", "copied map", func() { c.Put(1, 1) })
	wantMisuse(t, "Map.Close", "copied map", func() { c.Close() })
	m.Close()
	for op, do := range map[string]func(){
		"Map.Get": func() { m.Get(1) }, "Map.GetPtr": func() { m.GetPtr(1) }, "Map.Put": func() { m.Put(1, 1) },
		"Map.PutPtr": func() { m.PutPtr(1) }, "Map.Delete": func() { m.Delete(1) }, "Map.Len": func() { m.Len() },
		"Map.Clear": m.Clear, "Map.Reserve": func() { m.Reserve(1) }, "Map.Close": m.Close,
		"Map.All": func() {
			for range m.All() {
				t.Error("a closed Map has an entry")
			}
		},
	} {
		wantMisuse(t, op, "closed map", do)
	}
	s := new(offheap.StringMap[int])
	s.Close() // unused
	for op, do := range map[string]func(){
		"StringMap.Get": func() { s.Get("") }, "StringMap.GetBytes": func() { s.GetBytes(nil) }, "StringMap.GetPtr": func() { s.GetPtr("") },
		"StringMap.Put": func() { s.Put("", 1) }, "StringMap.PutPtr": func() { s.PutPtr("") }, "StringMap.PutPtrBytes": func() { s.PutPtrBytes(nil) },
		"StringMap.Delete": func() { s.Delete("") }, "StringMap.Len": func() { s.Len() },
		"StringMap.Clear": s.Clear, "StringMap.Reserve": func() { s.Reserve(1) }, "StringMap.Close": s.Close,
		"StringMap.All": func() {
			for range s.All() {
				t.Error("a closed StringMap has an entry")
			}
		},
	} {
		wantMisuse(t, op, "closed map", do)
	}
}

var (
	globalMap    offheap.Map[int, int]
	structOfMaps = struct {
		other int
		m     offheap.Map[int, int]
		s     offheap.StringMap[int]
	}{other: 1}
)

// TestMapPlaces: a zero map may be a global variable, or a field.
func TestMapPlaces(t *testing.T) {
	hakmemtest.NoLeaks(t)
	field := new(struct {
		other int
		m     offheap.Map[int, int]
	})
	for i, m := range []*offheap.Map[int, int]{&globalMap, &structOfMaps.m, &field.m} {
		for k := range 2000 {
			m.Put(k, i+structOfMaps.other+field.other)
		}
		runtime.GC()
		if v, ok := m.Get(1999); !ok || v != i+1 || m.Len() != 2000 {
			t.Errorf("map %d: %d, %v, %d entries", i, v, ok, m.Len())
		}
		m.Close()
	}
	structOfMaps.s.Put("a key that has a block of its own", 1)
	structOfMaps.s.Close()
}

// TestMapNaN: a key that is not equal to itself behaves as in Go's map.
func TestMapNaN(t *testing.T) {
	m := offheap.NewMap[float64, int]()
	defer m.Close()
	const n = 3000
	for i := range n {
		m.Put(math.NaN(), i)
	}
	m.Put(math.Copysign(0, -1), n)
	if v, ok := m.Get(0); !ok || v != n {
		t.Errorf("0 and -0 are different keys")
	}
	if _, ok := m.Get(math.NaN()); ok || m.Delete(math.NaN()) || m.Len() != n+1 {
		t.Errorf("a NaN was found; %d entries", m.Len())
	}
	// The loop comes to each, also while the tables are split by what its body adds.
	seen := make([]int, 3*n)
	for k, v := range m.All() {
		seen[v]++
		if k != 0 && v < n {
			m.Put(math.NaN(), n+1+v)
		}
	}
	for v, times := range seen[:n+1] {
		if times != 1 {
			t.Fatalf("entry %d comes %d times", v, times)
		}
	}
	for v, times := range seen[n+1:] {
		if times > 1 {
			t.Fatalf("entry %d, which was added, comes %d times", v, times)
		}
	}
	if m.Len() != 2*n+1 {
		t.Errorf("%d entries", m.Len())
	}
	m.Clear()
	if m.Len() != 0 {
		t.Errorf("%d entries after Clear", m.Len())
	}
}

// held returns the memory of live blocks.
func held() uint64 {
	var s hakmem.Stats
	hakmem.ReadStats(&s)
	return s.Live
}

// TestMapShrinks: a map that had many entries does not keep their memory.
func TestMapShrinks(t *testing.T) {
	n := 100_000
	if testing.Short() {
		n = 15_000
	}
	t.Run("Map", func(t *testing.T) {
		m := new(offheap.Map[uint64, uint64])
		shrinks(t, n, func(k int) { m.Put(scatter(k), uint64(k)) }, func(k int) { m.Delete(scatter(k)) }, m.All(), m.Close,
			func() error { return offheap.CheckMap(m) })
	})
	t.Run("StringMap", func(t *testing.T) {
		m := new(offheap.StringMap[int])
		key := func(k int) string { return fmt.Sprintf("%[1]*[2]d", 1+k%30, k) }
		shrinks(t, n, func(k int) { m.Put(key(k), k) }, func(k int) { m.Delete(key(k)) }, m.All(), m.Close,
			func() error { return offheap.CheckStringMap(m) })
	})
}

// shrinks fills a map with n entries and deletes 99 % of them, in some order, in the body of a loop, and
// all of them.
func shrinks[K, V any](t *testing.T, n int, put, del func(k int), all iter.Seq2[K, V], closeMap func(), check func() error) {
	hakmemtest.NoLeaks(t)
	before := held()
	mustCheck := func(what string) {
		t.Helper()
		if err := check(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for round := range 3 {
		for k := range n {
			put(k)
		}
		full := held() - before
		mustCheck("full")
		gone := 0
		inLoop := round == 1
		step := func(k int) {
			if k%100 != 0 {
				del(k)
				gone++
			}
		}
		if inLoop {
			k := 0
			for range all { // what the body deletes is not what comes
				for range 3 {
					if k < n {
						step(k)
					}
					k++
				}
			}
			for ; k < n; k++ {
				step(k)
			}
		} else {
			for k := n - 1; k >= 0; k-- {
				step(k)
			}
		}
		mustCheck("99 % deleted")
		if left := held() - before; left > full/10 {
			t.Errorf("round %d: %d bytes with %d entries, %d with %d", round, left, n-gone, full, n)
		}
		for k := range n {
			del(k)
		}
		mustCheck("all deleted")
		if left := held() - before; left > 4096 {
			t.Errorf("round %d: %d bytes without entries", round, left)
		}
	}
	closeMap()
	if now := held(); now != before {
		t.Errorf("%d bytes after Close, %d before", now, before)
	}
}

// TestMapChurn: a map of steady size stays as large as it is, whatever comes and goes.
func TestMapChurn(t *testing.T) {
	m := new(offheap.Map[uint64, uint64])
	defer m.Close()
	const n = 600 // of the 896 that a table has room for
	for i := range 60 * n {
		m.Put(scatter(i), uint64(i))
		if i >= n {
			m.Delete(scatter(i - n))
		}
	}
	if tables, directory := offheap.Tables(m); m.Len() != n || tables != 1 || directory != 1 {
		t.Errorf("%d entries in %d tables, a directory of %d", m.Len(), tables, directory)
	}
	if err := offheap.CheckMap(m); err != nil {
		t.Error(err)
	}
	for i := range 20_000 {
		m.Put(uint64(i), 1)
	}
	if _, directory := offheap.Tables(m); directory < 16 {
		t.Errorf("a directory of %d", directory)
	}
	m.Reserve(10) // less than there is
	for i := range 20_000 {
		m.Delete(uint64(i))
	}
	m.Put(1, 1)
	for i := range 61 * n {
		m.Delete(scatter(i))
	}
	if tables, directory := offheap.Tables(m); tables != 1 || directory != 1 || m.Len() != 1 {
		t.Errorf("%d tables, a directory of %d are left for %d entries", tables, directory, m.Len())
	}
}

// TestMapDeleteInLoop: a loop whose body deletes what comes gives back nearly all, although tables may
// not be joined meanwhile.
func TestMapDeleteInLoop(t *testing.T) {
	before := held()
	m := new(offheap.Map[uint64, uint64])
	defer m.Close()
	for i := range 20_000 {
		m.Put(scatter(i), uint64(i))
	}
	full := held() - before
	for k := range m.All() {
		m.Delete(k)
	}
	if left := held() - before; m.Len() != 0 || left > full/20 {
		t.Errorf("%d entries, %d bytes, %d when it was full", m.Len(), left, full)
	}
	if err := offheap.CheckMap(m); err != nil {
		t.Error(err)
	}
}

// TestMapLoopEnds: Clear and Close in the body end a loop, and so does a panic.
func TestMapLoopEnds(t *testing.T) {
	hakmemtest.NoLeaks(t)
	fill := func() *offheap.StringMap[int] {
		m := offheap.NewStringMap[int]()
		for i := range 3000 {
			m.Put(fmt.Sprintf("a key of more than fifteen bytes: %d", i), i)
		}
		return m
	}
	m := fill()
	steps := 0
	for range m.All() {
		for range m.All() {
			if steps++; steps == 10 {
				m.Clear()
				m.Put("new", 1)
			}
		}
	}
	if steps != 10 || m.Len() != 1 {
		t.Errorf("%d steps, %d entries", steps, m.Len())
	}
	m.Close()
	m = fill()
	steps = 0
	for range m.All() {
		if steps++; steps == 10 {
			for i := range 5000 { // the table of the loop is split
				m.Put(fmt.Sprint(i), i)
			}
			m.Close()
		}
	}
	if steps != 10 {
		t.Errorf("%d steps", steps)
	}
	m = fill()
	v := testkit.PanicOf(func() {
		for range m.All() {
			for i := range 5000 {
				m.Put(fmt.Sprint(i), i)
			}
			panic("out of the loop")
		}
	})
	if v != "out of the loop" {
		t.Error(v)
	}
	if err := offheap.CheckStringMap(m); err != nil {
		t.Error(err)
	}
	next, stop := iter.Pull2(m.All())
	k, _, ok := next()
	if !ok || !m.Delete(k) {
		t.Errorf("%q, %v", k, ok)
	}
	stop()
	m.Close()
}

// mustReserve reserves room for n entries, puts them and wants that the map took no memory for them.
func mustReserve(t *testing.T, m *offheap.Map[uint64, uint64], n int) {
	t.Helper()
	m.Reserve(n)
	tables, directory := offheap.Tables(m)
	before := held()
	for i := range n {
		m.Put(scatter(i), 1)
	}
	if now := held(); now != before {
		t.Errorf("Reserve(%d): %d bytes, %d after so many entries", n, before, now)
	}
	if more, longer := offheap.Tables(m); more != tables || longer != directory {
		t.Errorf("Reserve(%d): %d tables, %d after so many entries", n, tables, more)
	}
	if err := offheap.CheckMap(m); err != nil {
		t.Errorf("Reserve(%d): %v", n, err)
	}
}

// TestMapReserve: there is room for as many entries as were asked for.
func TestMapReserve(t *testing.T) {
	for _, n := range []int{0, 1, 7, 8, 100, 896, 897, 20_000} {
		m := new(offheap.Map[uint64, uint64])
		for i := range n / 3 {
			m.Put(scatter(i), 1)
		}
		mustReserve(t, m, n)
		m.Close()
	}
	m := offheap.NewMap[uint64, uint64]()
	defer m.Close()
	m.Put(1, 1)
	for _, n := range []int{1 << 45, 1 << 55, math.MaxInt} {
		oom, instead := testkit.PanicAs[*hakmem.OutOfMemoryError](func() { m.Reserve(n) })
		if oom == nil {
			t.Errorf("Reserve(%d): %s", n, instead)
		}
	}
	if v, ok := m.Get(1); !ok || v != 1 {
		t.Error("the entry is gone")
	}
}

// TestMapReserveAfterDeletes: tables that became small get room again.
func TestMapReserveAfterDeletes(t *testing.T) {
	for _, n := range []int{8, 800, 50_000, 100_000} {
		m := new(offheap.Map[uint64, uint64])
		for i := range 100_000 {
			m.Put(scatter(i), 1)
		}
		for k := range m.All() { // meanwhile tables become smaller, and none is merged
			m.Delete(k)
		}
		mustReserve(t, m, n)
		m.Close()
	}
}

// TestMapReaders: any number of goroutines may read at once. The race detector looks on.
func TestMapReaders(t *testing.T) {
	m := offheap.NewMap[int, int]()
	s := offheap.NewStringMap[int]()
	defer m.Close()
	defer s.Close()
	const n = 2000
	for i := range n {
		m.Put(i, i)
		s.Put(fmt.Sprint(i), i)
	}
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range n {
				if v, ok := m.Get(i); !ok || v != i {
					t.Errorf("Get(%d): %d, %v", i, v, ok)
				}
				if p := s.GetPtr(fmt.Sprint(i)); p == nil || *p != i {
					t.Errorf("GetPtr(%d)", i)
				}
			}
			count := 0
			for range m.All() {
				if count++; count == n-g {
					break
				}
			}
			for range s.All() {
				count++
			}
			if count != 2*n-g || m.Len() != n {
				t.Errorf("%d entries", count)
			}
		})
	}
	all.Wait()
}

// TestMapAllocatesNothing: a map with entries needs no Go memory.
func TestMapAllocatesNothing(t *testing.T) {
	if testkit.Race || asan.On {
		t.Skip("skipped: with the detectors Go allocates where it else does not")
	}
	m := offheap.NewMap[uint64, uint64]()
	s := offheap.NewStringMap[uint64]()
	defer m.Close()
	defer s.Close()
	long := []byte("a key that has a block of its own")
	if n := testing.AllocsPerRun(100, func() {
		for i := range uint64(100) {
			m.Put(i, i)
			v, _ := m.Get(i)
			*m.GetPtr(i) += v
			p, _ := s.PutPtrBytes(long)
			*p++
			s.Put("short", *p)
			s.GetBytes(long)
		}
		for i := range uint64(100) {
			m.Delete(i)
		}
	}); n > 1 { // the table moves a few times, and each time needs a closure
		t.Errorf("%v allocations", n)
	}
}

var _ = testkit.Child("map without memory", mapWithoutMemory)

// mapWithoutMemory fills maps until there is no memory, many times, with limits that end at other steps.
func mapWithoutMemory(string) error {
	ran := 0
	for try := range uint64(10) {
		m, s := offheap.NewMap[uint64, [4]uint64](), offheap.NewStringMap[uint64]()
		hakmem.Trim()
		limit := max(hakmem.Counted(), 2<<20) + try*80_000 // 2 MiB is the least
		if err := hakmem.SetMemoryLimit(0, limit); err != nil {
			return err
		}
		kept, keptStrings := 0, 0
		full := func(do func(i int)) (n int) {
			oom, _ := testkit.PanicAs[*hakmem.OutOfMemoryError](func() {
				for ; n < 1_000_000; n++ {
					do(n)
				}
			})
			if oom != nil && oom.Size > 0 && oom.Error() != "" {
				ran++
			}
			return n
		}
		key := func(i int) string { return fmt.Sprintf("%20d", i) }
		if try%2 == 0 {
			kept = full(func(i int) { m.Put(scatter(i), [4]uint64{uint64(i)}) })
			keptStrings = full(func(i int) { s.Put(key(i), uint64(i)) })
		} else {
			full(func(i int) { s.Reserve(i * 100) })
			keptStrings = full(func(i int) { s.PutPtr(key(i)); *s.GetPtr(key(i)) = uint64(i) })
			kept = full(func(i int) { m.Put(scatter(i), [4]uint64{uint64(i)}) })
		}
		if m.Len() != kept || s.Len() != keptStrings {
			return fmt.Errorf("%d and %d entries, want %d and %d", m.Len(), s.Len(), kept, keptStrings)
		}
		if err := errors.Join(offheap.CheckMap(m), offheap.CheckStringMap(s)); err != nil {
			return err
		}
		for i := range kept {
			if v, ok := m.Get(scatter(i)); !ok || v[0] != uint64(i) {
				return fmt.Errorf("entry %d of %d: %v, %v", i, kept, v, ok)
			}
			if i%10 != 0 { // there may be no memory for smaller tables either
				m.Delete(scatter(i))
			}
		}
		for i := range keptStrings {
			if v, ok := s.Get(key(i)); !ok || v != uint64(i) {
				return fmt.Errorf("string %d of %d: %v, %v", i, keptStrings, v, ok)
			}
			if i%10 != 0 {
				s.Delete(key(i))
			}
		}
		if err := errors.Join(offheap.CheckMap(m), offheap.CheckStringMap(s)); err != nil {
			return err
		}
		if err := hakmem.SetMemoryLimit(0, 0); err != nil {
			return err
		}
		m.Close()
		s.Close()
		if n := liveBlocks(); n != 0 {
			return fmt.Errorf("%d live blocks at the end", n)
		}
	}
	if ran < 20 { // each time twice
		return fmt.Errorf("memory ran out %d times only", ran)
	}
	return nil
}

func TestMapWithoutMemory(t *testing.T) { testkit.InChild(t, "map without memory", "") }

//go:noinline
func dropMaps(n int) {
	for range n {
		m, s := offheap.NewMap[int, int](), offheap.NewStringMap[int]()
		for i := range 2000 {
			m.Put(i, i)
			s.Put(fmt.Sprintf("a key with a block of its own: %d", i), i)
		}
		offheap.NewMap[int, int]() // has no memory, so it is not counted
	}
}

var _ = testkit.Child("maps dropped", func(string) error {
	offheap.RecordStacks(true)
	closed := offheap.NewMap[int, int]()
	closed.Put(1, 1)
	closed.Close()
	dropMaps(5)
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		runtime.GC()
		if a := offheap.ReadAbandoned(); a.Maps == 5 && a.StringMaps == 5 && liveBlocks() == 0 {
			break
		} else if time.Now().After(end) {
			return fmt.Errorf("%+v, %d live blocks", a, liveBlocks())
		}
	}
	text := fmt.Sprint(hakmem.Err())
	for _, want := range []string{"a Map, made by ", "dropMaps (", "Close each Map", "a StringMap, made by ", "Close each StringMap", "map_test.go:"} {
		if !strings.Contains(text, want) {
			return fmt.Errorf("no %q in Err: %s", want, text)
		}
	}
	return nil
})

// TestMapDropped: a map that is dropped is freed, counted and reported.
func TestMapDropped(t *testing.T) { inModes(t, "maps dropped") }
