package parquetbuffers_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/adapters/bufferpools/parquetbuffers"
	"github.com/hakmem/hakmem/hakmemtest"
)

var _ parquet.BufferPool = (*parquetbuffers.Pool)(nil)

// liveBytes returns the memory of the pools' buffers.
func liveBytes() uint64 {
	var s hakmem.Stats
	hakmem.ReadStats(&s)
	for _, site := range s.Sites {
		if site.Name == "parquetbuffers" {
			return uint64(site.LiveBytes)
		}
	}
	return 0
}

func noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

func seek(t *testing.T, b io.Seeker, offset int64, whence int, want int64) {
	t.Helper()
	if got, err := b.Seek(offset, whence); got != want || err != nil {
		t.Fatalf("Seek(%d, %d): %d, %v, want %d", offset, whence, got, err, want)
	}
}

// TestReader: the buffer reads as a reader must, at all lengths.
func TestReader(t *testing.T) {
	hakmemtest.NoLeaks(t)
	p := parquetbuffers.New(parquetbuffers.Options{})
	for _, n := range []int{0, 1, 1000, 1024, 1025, 32 << 10, 32<<10 + 1, 100_000} {
		content := noise(n, uint64(n))
		b := p.GetBuffer()
		if got, err := b.Write(content); got != n || err != nil {
			t.Fatalf("Write of %d: %d, %v", n, got, err)
		}
		if live := liveBytes(); live > uint64(max(2*n, 1024)+32<<10) {
			t.Errorf("%d bytes take %d", n, live)
		}
		seek(t, b, 0, io.SeekStart, 0)
		if err := iotest.TestReader(b, content); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
		p.PutBuffer(b)
	}
}

// TestModel: the buffer is a slice of bytes and an offset.
func TestModel(t *testing.T) {
	hakmemtest.NoLeaks(t)
	p := parquetbuffers.New(parquetbuffers.Options{})
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 2))
		b := p.GetBuffer()
		var model []byte
		at := 0
		write := func(p []byte) {
			model = append(model[:at], append(slices.Clone(p), model[min(at+len(p), len(model)):]...)...)
			at += len(p)
		}
		for step := range 100 {
			n := r.IntN(1 << r.IntN(18))
			data := noise(n, uint64(step))
			switch r.IntN(6) {
			case 0, 1:
				if got, err := b.Write(data); got != n || err != nil {
					t.Fatalf("Write of %d: %d, %v", n, got, err)
				}
				write(data)
			case 2:
				if got, err := io.Copy(b, iotest.HalfReader(bytes.NewReader(data))); got != int64(n) || err != nil {
					t.Fatalf("ReadFrom of %d: %d, %v", n, got, err)
				}
				write(data)
			case 3:
				got := make([]byte, min(n, len(model)-at))
				if _, err := io.ReadFull(b, got); err != nil || !bytes.Equal(got, model[at:at+len(got)]) {
					t.Fatalf("seed %d: reading %d at %d of %d: %v", seed, len(got), at, len(model), err)
				}
				at += len(got)
			case 4:
				var got bytes.Buffer
				if n, err := io.Copy(&got, b); int(n) != len(model)-at || err != nil || !bytes.Equal(got.Bytes(), model[at:]) {
					t.Fatalf("seed %d: WriteTo at %d of %d: %d, %v", seed, at, len(model), n, err)
				}
				at = len(model)
			case 5:
				switch to := min(r.IntN(len(model)+1000), len(model)); r.IntN(3) {
				case 0:
					seek(t, b, int64(to), io.SeekStart, int64(to))
					at = to
				case 1:
					seek(t, b, int64(to-at), io.SeekCurrent, int64(to))
					at = to
				case 2:
					seek(t, b, int64(to-len(model)), io.SeekEnd, int64(to))
					at = to
				}
			}
		}
		p.PutBuffer(b)
	}
}

// TestErrors: what cannot be done is an error, or a panic where it is misuse.
func TestErrors(t *testing.T) {
	hakmemtest.NoLeaks(t)
	p := parquetbuffers.New(parquetbuffers.Options{Site: hakmem.RegisterSite("mine")})
	b := p.GetBuffer().(*parquetbuffers.Buffer)
	fmt.Fprint(b, "0123456789")
	seek(t, b, 100, io.SeekStart, 10)
	for _, whence := range []int{io.SeekStart, io.SeekCurrent, io.SeekEnd} {
		seek(t, b, math.MaxInt64, whence, 10)
	}
	for _, f := range []func() (int64, error){
		func() (int64, error) { return b.Seek(-1, io.SeekStart) },
		func() (int64, error) { return b.Seek(-11, io.SeekEnd) },
		func() (int64, error) { return b.Seek(0, 3) },
		func() (int64, error) { n, err := b.ReadAt(make([]byte, 1), -1); return int64(n), err },
	} {
		if n, err := f(); n != 0 || err == nil || !strings.HasPrefix(err.Error(), "parquetbuffers: ") {
			t.Errorf("%d, %v", n, err)
		}
	}
	seek(t, b, 0, io.SeekStart, 0)
	if n, err := b.WriteTo(iotest.TruncateWriter(io.Discard, 3)); n != 10 || err != nil {
		t.Errorf("WriteTo: %d, %v", n, err)
	}
	seek(t, b, 0, io.SeekStart, 0)
	if n, err := b.WriteTo(short{}); n != 3 || err != io.ErrShortWrite {
		t.Errorf("WriteTo a short writer: %d, %v", n, err)
	}
	seek(t, b, 0, io.SeekStart, 0)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("WriteTo does not panic where a Write says that it wrote more than it got")
			}
		}()
		b.WriteTo(long{})
	}()
	seek(t, b, 10, io.SeekStart, 10)
	failure := errors.New("it fails")
	if n, err := b.ReadFrom(iotest.ErrReader(failure)); n != 0 || err != failure {
		t.Errorf("ReadFrom: %d, %v", n, err)
	}
	p.PutBuffer(b)
	for name, f := range map[string]func() error{
		"Read":     func() error { _, err := b.Read(make([]byte, 1)); return err },
		"ReadAt":   func() error { _, err := b.ReadAt(make([]byte, 1), 0); return err },
		"Write":    func() error { _, err := b.Write(make([]byte, 1)); return err },
		"Write 0":  func() error { _, err := b.Write(nil); return err },
		"Seek":     func() error { _, err := b.Seek(0, io.SeekStart); return err },
		"ReadFrom": func() error { _, err := b.ReadFrom(strings.NewReader("x")); return err },
		"WriteTo":  func() error { _, err := b.WriteTo(io.Discard); return err },
	} {
		if err := f(); err != parquetbuffers.ErrPut {
			t.Errorf("%s after PutBuffer: %v", name, err)
		}
	}
	for _, other := range []io.ReadWriteSeeker{b, nil, other{}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("PutBuffer(%T) does not panic", other)
				}
			}()
			p.PutBuffer(other)
		}()
	}
}

type short struct{}

func (short) Write([]byte) (int, error) { return 3, nil }

type long struct{}

func (long) Write(p []byte) (int, error) { return len(p) + 1, nil }

type other struct{ io.ReadWriteSeeker }

// TestUnregisteredSite: New refuses a site that RegisterSite did not return.
func TestUnregisteredSite(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("New does not panic")
		}
	}()
	parquetbuffers.New(parquetbuffers.Options{Site: 1 << 15})
}

// TestMemoryLimit: a write for which there is no memory keeps what was written.
func TestMemoryLimit(t *testing.T) {
	hakmemtest.NoLeaks(t)
	p := parquetbuffers.New(parquetbuffers.Options{})
	b := p.GetBuffer()
	defer func() { p.PutBuffer(b) }()
	content := noise(100_000, 1)
	if _, err := b.Write(content); err != nil {
		t.Fatal(err)
	}
	soft, hard, err := hakmem.SwapMemoryLimit(0, max(hakmem.Counted(), 8<<20))
	if err != nil {
		t.Fatal(err)
	}
	defer hakmem.SetMemoryLimit(soft, hard)
	n, err := b.Write(make([]byte, 100<<20))
	if n >= 100<<20 || !errors.Is(err, parquetbuffers.ErrNoMemory) {
		t.Errorf("Write: %d, %v", n, err)
	}
	seek(t, b, 0, io.SeekStart, 0)
	got := make([]byte, len(content)+n)
	if _, err := io.ReadFull(b, got); err != nil || !bytes.Equal(got, append(content, make([]byte, n)...)) {
		t.Errorf("what was written is not there: %v", err)
	}
}

// TestLost: a buffer that nobody puts back is freed after a collection.
func TestLost(t *testing.T) {
	hakmemtest.NoLeaks(t)
	func() {
		b := parquetbuffers.New(parquetbuffers.Options{}).GetBuffer()
		b.Write(make([]byte, 100_000))
	}()
	for deadline := time.Now().Add(time.Minute); liveBytes() > 0; runtime.Gosched() { // cleanups have a goroutine of their own
		runtime.GC()
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes are left", liveBytes())
		}
	}
}

type row struct {
	ID    int64  `parquet:"id"`
	Name  string `parquet:"name"`
	Value float64
	List  []int32
}

func rows(from, n int) (list []row) {
	for i := range n {
		i += from
		list = append(list, row{int64(i), fmt.Sprint("name ", i*7919%n), float64(i) / 3, []int32{int32(i), 1, 2}[:i%4]})
	}
	return list
}

// written writes rows in several row groups.
func written(t *testing.T, list []row, options ...parquet.WriterOption) []byte {
	t.Helper()
	var file bytes.Buffer
	w := parquet.NewGenericWriter[row](&file, options...)
	for part := range slices.Chunk(list, len(list)/4) {
		if _, err := w.Write(part); err != nil {
			t.Error(err)
		}
		if err := w.Flush(); err != nil {
			t.Error(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	return file.Bytes()
}

// TestParquet: writers in several goroutines write the same files with the pool as without, and leave nothing.
func TestParquet(t *testing.T) {
	hakmemtest.NoLeaks(t)
	p := parquetbuffers.New(parquetbuffers.Options{})
	var writers sync.WaitGroup
	var most struct {
		sync.Mutex
		bytes uint64
	}
	for g := range 4 {
		writers.Go(func() {
			n := 1000
			list := rows(g*n, n)
			want := written(t, list)
			for range 2 {
				got := written(t, list, parquet.ColumnPageBuffers(p))
				if !bytes.Equal(got, want) {
					t.Error("the file is another than without the pool")
				}
				back, err := parquet.Read[row](bytes.NewReader(got), int64(len(got)))
				if err != nil || len(back) != n || back[n-1].ID != list[n-1].ID || back[n/2].Name != list[n/2].Name {
					t.Errorf("%d rows, %v", len(back), err)
				}
				live := liveBytes()
				most.Lock()
				most.bytes = max(most.bytes, live)
				most.Unlock()
			}
		})
	}
	writers.Wait()
	if most.bytes > 16<<20 {
		t.Errorf("%d bytes at a time: more than all files", most.bytes)
	}
	if n := liveBytes(); n != 0 {
		t.Errorf("%d bytes are left", n)
	}
}

// TestSorting: the sorting writer, whose buffers are read back.
func TestSorting(t *testing.T) {
	hakmemtest.NoLeaks(t)
	p := parquetbuffers.New(parquetbuffers.Options{})
	var file bytes.Buffer
	w := parquet.NewSortingWriter[row](&file, 1000, parquet.SortingWriterConfig(parquet.SortingColumns(parquet.Ascending("name")), parquet.SortingBuffers(p)),
		parquet.ColumnPageBuffers(p))
	if _, err := w.Write(rows(0, 5000)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	back, err := parquet.Read[row](bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil || len(back) != 5000 || !slices.IsSortedFunc(back, func(a, b row) int { return strings.Compare(a.Name, b.Name) }) {
		t.Errorf("%d rows, %v, or they are not sorted", len(back), err)
	}
	if n := liveBytes(); n != 0 {
		t.Errorf("%d bytes are left", n)
	}
}

func Example() {
	pool := parquetbuffers.New(parquetbuffers.Options{})

	var file bytes.Buffer
	w := parquet.NewGenericWriter[row](&file, parquet.ColumnPageBuffers(pool))
	if _, err := w.Write([]row{{ID: 1, Name: "one"}, {ID: 2, Name: "two"}}); err != nil {
		fmt.Println(err)
	}
	if err := w.Close(); err != nil {
		fmt.Println(err)
	}

	back, err := parquet.Read[row](bytes.NewReader(file.Bytes()), int64(file.Len()))
	fmt.Println(len(back), "rows, the last one is", back[1].Name, err)
	// Output: 2 rows, the last one is two <nil>
}
