package fastcache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/golang/snappy"

	"github.com/hakmem/hakmem/hakmemtest"
)

// TestFile: what was saved is loaded, whatever the number of goroutines and files.
func TestFile(t *testing.T) {
	hakmemtest.NoLeaks(t)
	const size = 4 * minBytes // a big value overwrites others in a smaller one
	for _, goroutines := range []int{0, 1} {
		path := filepath.Join(t.TempDir(), "new", "directories", "cache")
		c := New(size)
		for i := range 200 {
			c.Set(key(i), value(i))
		}
		big := noise(100_000, 1)
		c.SetBig(key(-1), big)
		c.Del(key(0))
		for range 2 { // the second time there is a file
			if err := c.SaveToFileConcurrent(path, goroutines); err != nil {
				t.Fatal(err)
			}
		}
		c.Close()
		left, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
		if err != nil || len(left) != 1 {
			t.Errorf("files next to the cache: %q, %v", left, err)
		}
		loaded, err := LoadFromFileMaxBytes(path, size)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 200 {
			if got := loaded.Get(nil, key(i)); i > 0 && !bytes.Equal(got, value(i)) || i == 0 && got != nil {
				t.Fatalf("%s has %q", key(i), got)
			}
		}
		if !bytes.Equal(loaded.GetBig(nil, key(-1)), big) {
			t.Error("the big value is not there")
		}
		for i := range 400 { // it goes on from there
			loaded.Set(key(i), bytes.Repeat(value(i), 3000))
			if !bytes.Equal(loaded.Get(nil, key(i)), bytes.Repeat(value(i), 3000)) {
				t.Fatalf("%s is not there", key(i))
			}
		}
		loaded.Close()

		if c, err := LoadFromFileMaxBytes(path, size+1); err == nil || c != nil || !strings.Contains(err.Error(), "New(134217729)") {
			t.Errorf("with another size: %v, %v", c, err)
		}
		fresh := LoadFromFileOrNew(path, size+1)
		if s := stats(fresh); s.EntriesCount != 0 || s.MaxBytesSize != size+minBytes {
			t.Errorf("LoadFromFileOrNew with another size: %+v", s)
		}
		fresh.Close()
		same := LoadFromFileOrNew(path, size)
		if s := stats(same); s.EntriesCount < 200 {
			t.Errorf("LoadFromFileOrNew: %+v", s)
		}
		same.Close()
	}
}

// TestOriginal: a file that fastcache v1.13.2 has written.
func TestOriginal(t *testing.T) {
	hakmemtest.NoLeaks(t)
	c, err := LoadFromFile("testdata/v1.13.2")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range 4 {
		if got := c.Get(nil, key(i)); i > 0 && !bytes.Equal(got, value(i)) || i == 0 && got != nil {
			t.Errorf("%s has %q", key(i), got)
		}
	}
	want := make([]byte, 70_000)
	for i := range want {
		want[i] = byte(i % 251)
	}
	if !bytes.Equal(c.GetBig(nil, []byte("big")), want) {
		t.Error("the big value is another")
	}
}

// TestUndefinedBytes: what others have freed does not get into a file.
func TestUndefinedBytes(t *testing.T) {
	hakmemtest.NoLeaks(t)
	secret := []byte("what another part of the program has freed")
	for range 100 { // chunks that are used again
		c := newChunk()
		for i := range c.bytes {
			c.bytes[i] = secret[i%len(secret)]
		}
		c.free()
	}
	c := New(1)
	defer c.Close()
	for i := range 100 {
		c.Set(key(i), value(i))
	}
	var b bytes.Buffer
	for i := range c.buckets {
		if err := c.buckets[i].save(&b, uint64(i)); err != nil {
			t.Fatal(err)
		}
	}
	if bytes.Contains(b.Bytes(), secret) {
		t.Error("the file has freed memory in it")
	}
}

// bucketText is a bucket of a file as numbers, with chunks of zeros behind.
func bucketText(chunks int, numbers ...uint64) []byte {
	var b []byte
	for _, n := range numbers {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return append(b, make([]byte, chunks*chunkSize)...)
}

// damagedStreams are data files that SaveToFile does not write, by what is wrong with them.
var damagedStreams = map[string][]byte{
	"half a number":      make([]byte, 4),
	"no head":            bucketText(0, 3),
	"bucket 512":         bucketText(0, 512, 0, 1, 0, 0),
	"pass 0":             bucketText(0, 3, 0, 0, 0, 0),
	"pass 2^24":          bucketText(0, 3, 0, 1<<24, 0, 0),
	"endless entries":    bucketText(0, 3, 0, 1, 1<<60, 0),
	"missing entries":    bucketText(0, 3, 0, 1, 1000),
	"no chunks":          bucketText(0, 3, 0, 1, 0),
	"too many chunks":    bucketText(2, 3, 0, 1, 0, 2),
	"missing chunk":      bucketText(0, 3, 0, 1, 0, 1),
	"next behind chunks": bucketText(1, 3, chunkSize, 1, 0, 1),
	"next without chunk": bucketText(0, 3, 5, 1, 0, 0),
	"twice":              append(bucketText(1, 3, 0, 1, 1, 2, 3, 1), bucketText(1, 3, 0, 1, 0, 1)...),
}

// TestDamaged: no file makes a cache that is wrong, or uses memory for what is not there.
func TestDamaged(t *testing.T) {
	hakmemtest.NoLeaks(t)
	write := func(t *testing.T, meta, data []byte) string {
		dir := t.TempDir()
		if err := errors.Join(os.WriteFile(filepath.Join(dir, metadataName), meta, 0o666), os.WriteFile(filepath.Join(dir, "data.0.bin"), data, 0o666)); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	framed := func(text []byte) []byte {
		var b bytes.Buffer
		w := snappy.NewBufferedWriter(&b)
		w.Write(text)
		w.Close()
		return b.Bytes()
	}
	refused := func(t *testing.T, dir string) {
		t.Helper()
		c, err := LoadFromFile(dir)
		if c != nil || !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), filepath.Base(dir)) {
			t.Errorf("%v, %v", c, err)
		}
		n := LoadFromFileOrNew(dir, 1)
		if n.Set(key(1), value(1)); !n.Has(key(1)) || n.Has(nil) {
			t.Error("LoadFromFileOrNew makes no empty cache")
		}
		n.Close()
	}
	one := bucketText(0, 1)
	for name, text := range damagedStreams {
		t.Run(name, func(t *testing.T) { refused(t, write(t, one, framed(text))) })
	}
	t.Run("no stream", func(t *testing.T) { refused(t, write(t, one, []byte("no stream at all"))) })
	for _, meta := range [][]byte{nil, make([]byte, 7), make([]byte, 8), make([]byte, 9), bucketText(0, maxChunks+1), bucketText(0, 1<<63)} {
		t.Run("metadata", func(t *testing.T) { refused(t, write(t, meta, nil)) })
	}
	if c, err := LoadFromFile(filepath.Join(t.TempDir(), "nothing")); c != nil || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v, %v", c, err)
	}
	// A file that ends early has the buckets that it has.
	c, err := LoadFromFile(write(t, bucketText(0, 1<<20), framed(bucketText(0, 3, 0, 1, 0, 0))))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// TestSaveRefused: nothing is saved over what is no cache.
func TestSaveRefused(t *testing.T) {
	hakmemtest.NoLeaks(t)
	c := New(1)
	defer c.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "letter.txt")
	if err := os.WriteFile(file, []byte("text"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, file, filepath.Join(file, "below")} {
		if err := c.SaveToFile(path); err == nil {
			t.Errorf("%s: saved", path)
		}
	}
	if text, err := os.ReadFile(file); string(text) != "text" || err != nil {
		t.Errorf("the file has %q, %v", text, err)
	}
	empty := filepath.Join(dir, "empty")
	if err := errors.Join(os.Mkdir(empty, 0o777), c.SaveToFile(empty)); err != nil {
		t.Errorf("an empty directory: %v", err)
	}
}

// FuzzRead: no stream makes a cache that panics, reads beyond a chunk or leaks.
func FuzzRead(f *testing.F) {
	for _, text := range damagedStreams {
		f.Add(text)
	}
	// An index that leads to every kind of place.
	f.Add(bucketText(1, 3, 100, 2, 4, 3, 1<<offsetBits|200, 3+bucketsCount, 2<<offsetBits|50, 3+2*bucketsCount, 1<<offsetBits|(chunkSize-2), 3+3*bucketsCount, 1<<offsetBits|chunkSize, 1))
	f.Fuzz(func(t *testing.T, text []byte) {
		c := New(1)
		defer c.Close()
		if err := c.read(bytes.NewReader(text)); err != nil {
			return
		}
		for h := range hash(10) {
			for _, k := range [][]byte{nil, {0}, []byte("key")} {
				b := &c.buckets[3]
				b.get(nil, k, 3+h*bucketsCount, true)
			}
		}
		for range 3 {
			c.buckets[3].set(key(1), make([]byte, 30_000), 3)
			if _, ok := c.buckets[3].get(nil, key(1), 3, true); !ok {
				t.Fatal("a new entry is not there")
			}
		}
		if err := c.buckets[3].save(&bytes.Buffer{}, 3); err != nil {
			t.Fatal(err)
		}
	})
}
