package fastcache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/golang/snappy"
)

// The file of a cache is a directory. All numbers are 64 bits, the lowest byte first.
//
//	metadata.bin  how many chunks a bucket may have
//	data.N.bin    buckets, one behind the other, as a stream in Snappy's framing format
//
// A bucket is: its number; where the next entry begins (at); the pass over the ring (gen); the number of elements of
// the index and the elements, each a hash and a place; the number of chunks and the chunks.

const metadataName = "metadata.bin"

var dataPattern = regexp.MustCompile(`^data\.\d+\.bin$`)

// errDamaged is in the error of every file that is not what SaveToFile writes.
var errDamaged = errors.New("the cache file is damaged, or is none; remove it and begin with an empty cache")

func damaged(path, format string, args ...any) error {
	return fmt.Errorf("fastcache: %q: %s: %w", path, fmt.Sprintf(format, args...), errDamaged)
}

// SaveToFile is SaveToFileConcurrent with one goroutine.
func (c *Cache) SaveToFile(filePath string) error { return c.SaveToFileConcurrent(filePath, 1) }

// SaveToFileConcurrent saves the cache into the directory filePath, with several goroutines: as many as concurrency says, and
// GOMAXPROCS where it is not above 0, or is above that. The directory appears as a whole when all is written, in place of an earlier file of a cache;
// anything else at filePath is left alone, with an error. Directories above it are made. The cache may be used meanwhile; a bucket cannot be written to
// while it is saved, so what is stored meanwhile may be in the file or not. Statistics are not saved.
func (c *Cache) SaveToFileConcurrent(filePath string, concurrency int) error {
	if most := runtime.GOMAXPROCS(0); concurrency <= 0 || concurrency > most {
		concurrency = most
	}
	if err := replaceable(filePath); err != nil {
		return err
	}
	above := filepath.Dir(filePath)
	if err := os.MkdirAll(above, 0o755); err != nil {
		return fmt.Errorf("fastcache: SaveToFile: %w", err)
	}
	temp, err := os.MkdirTemp(above, "fastcache.tmp.")
	if err != nil {
		return fmt.Errorf("fastcache: SaveToFile: %w", err)
	}
	if err = c.save(temp, concurrency); err == nil {
		if err = os.RemoveAll(filePath); err == nil {
			err = os.Rename(temp, filePath)
		}
	}
	runtime.KeepAlive(c)
	if err != nil {
		os.RemoveAll(temp)
		return fmt.Errorf("fastcache: SaveToFile: %w", err)
	}
	return nil
}

// replaceable returns an error if there is something at path that is not the file of a cache.
func replaceable(path string) error {
	entries, err := os.ReadDir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("fastcache: SaveToFile: %q is there and is no directory of a cache; choose another path: %w", path, err)
	}
	for _, e := range entries {
		if e.Name() != metadataName && !dataPattern.MatchString(e.Name()) {
			return fmt.Errorf("fastcache: SaveToFile: %q holds %q, which is of no cache; choose another path", path, e.Name())
		}
	}
	return nil
}

// save writes the files into a directory.
func (c *Cache) save(dir string, workers int) error {
	room := binary.LittleEndian.AppendUint64(nil, c.buckets[0].room)
	if err := os.WriteFile(filepath.Join(dir, metadataName), room, 0o666); err != nil {
		return err
	}
	var next atomic.Int64 // the number of the next bucket
	errs := make([]error, workers)
	var running sync.WaitGroup
	for i := range errs {
		running.Go(func() { errs[i] = c.saveSome(filepath.Join(dir, fmt.Sprintf("data.%d.bin", i)), &next) })
	}
	running.Wait()
	return errors.Join(errs...)
}

// saveSome writes the buckets whose numbers it draws.
func (c *Cache) saveSome(path string, next *atomic.Int64) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := snappy.NewBufferedWriter(f)
	for n := next.Add(1) - 1; n < bucketsCount; n = next.Add(1) - 1 {
		if err := c.buckets[n].save(w, uint64(n)); err != nil {
			return err
		}
	}
	return w.Close()
}

// unwritten is what a file has of the rest of a chunk: other parts of the program may have freed its memory.
var unwritten [chunkSize]byte

// save writes the bucket and its number.
func (b *bucket) save(w io.Writer, number uint64) error {
	b.mu.Lock()
	b.index.retain(b.readable)
	b.mu.Unlock()

	b.mu.RLock()
	defer b.mu.RUnlock()
	buf := make([]byte, 0, chunkSize)
	add := func(numbers ...uint64) error {
		for _, n := range numbers {
			buf = binary.LittleEndian.AppendUint64(buf, n)
		}
		if len(buf) < cap(buf)-bigHead {
			return nil
		}
		_, err := w.Write(buf)
		buf = buf[:0]
		return err
	}
	err := add(number, b.at, b.gen, uint64(b.index.live))
	for _, s := range b.index.slots {
		if s.at != 0 {
			err = errors.Join(err, add(uint64(s.hash), uint64(s.at)))
		}
	}
	err = errors.Join(err, add(uint64(len(b.chunks))))
	if err != nil {
		return err
	}
	if _, err := w.Write(buf); err != nil {
		return err
	}
	for _, c := range b.chunks {
		for _, part := range [][]byte{c.bytes[:c.written], unwritten[c.written:]} {
			if _, err := w.Write(part); err != nil {
				return err
			}
		}
	}
	return nil
}

// LoadFromFile returns the cache that was saved in the directory filePath. Where nothing is there the error is an
// fs.ErrNotExist. A damaged file is an error; buckets that no file has are empty.
func LoadFromFile(filePath string) (*Cache, error) { return load(filePath, 0) }

// LoadFromFileMaxBytes is LoadFromFile, with an error if the saved cache is of another size than New(maxBytes).
func LoadFromFileMaxBytes(filePath string, maxBytes int) (*Cache, error) {
	return load(filePath, maxBytes)
}

// LoadFromFileOrNew is LoadFromFileMaxBytes, and New(maxBytes) where that returns an error.
func LoadFromFileOrNew(filePath string, maxBytes int) *Cache {
	if c, err := load(filePath, maxBytes); err == nil {
		return c
	}
	return New(maxBytes)
}

// load reads a cache. With maxBytes 0 it may have any size.
func load(dir string, maxBytes int) (*Cache, error) {
	meta, err := os.ReadFile(filepath.Join(dir, metadataName))
	if err != nil {
		return nil, fmt.Errorf("fastcache: the cache file %q cannot be read: %w", dir, err)
	}
	if len(meta) != 8 {
		return nil, damaged(dir, "%s has %d bytes instead of 8", metadataName, len(meta))
	}
	room := binary.LittleEndian.Uint64(meta)
	if room == 0 || room > maxChunks {
		return nil, damaged(dir, "%d chunks in a bucket, want 1 to %d", room, maxChunks)
	}
	if maxBytes > 0 && room != chunksFor(maxBytes) {
		return nil, fmt.Errorf("fastcache: %q is a cache of %d bytes, New(%d) makes one of %d: load it with the size that it was made with, or begin with an empty one",
			dir, room*minBytes, maxBytes, chunksFor(maxBytes)*minBytes)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("fastcache: the cache file %q cannot be read: %w", dir, err)
	}
	c := New(int(room * minBytes))
	errs := make([]error, len(files))
	var running sync.WaitGroup
	for i, f := range files {
		if dataPattern.MatchString(f.Name()) {
			running.Go(func() { errs[i] = c.loadSome(filepath.Join(dir, f.Name())) })
		}
	}
	running.Wait()
	if err := errors.Join(errs...); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// loadSome reads one data file.
func (c *Cache) loadSome(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("fastcache: the cache file cannot be read: %w", err)
	}
	defer f.Close()
	if err := c.read(snappy.NewReader(f)); err != nil {
		return damaged(path, "%v", err)
	}
	return nil
}

// read reads buckets up to the end.
func (c *Cache) read(r io.Reader) error {
	for {
		var number uint64
		switch err := binary.Read(r, binary.LittleEndian, &number); {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("the number of a bucket: %w", err)
		case number >= bucketsCount:
			return fmt.Errorf("bucket %d, the last one is %d", number, bucketsCount-1)
		}
		if err := c.buckets[number].load(r); err != nil {
			return fmt.Errorf("bucket %d: %w", number, err)
		}
	}
}

// load reads what save writes behind the number, into a bucket that is empty.
func (b *bucket) load(r io.Reader) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.index.live > 0 || len(b.chunks) > 0 {
		return errors.New("it is there twice")
	}
	var head struct{ At, Gen, Entries uint64 }
	if err := binary.Read(r, binary.LittleEndian, &head); err != nil {
		return fmt.Errorf("its head: %w", eof(err))
	}
	if head.Gen&maxPass == 0 {
		return fmt.Errorf("pass %d over the ring", head.Gen)
	}
	if most := b.room * chunkSize / headSize; head.Entries > most {
		return fmt.Errorf("%d entries, it has room for %d", head.Entries, most)
	}
	if err := b.loadIndex(r, head.Entries); err != nil {
		return err
	}
	var chunks uint64
	if err := binary.Read(r, binary.LittleEndian, &chunks); err != nil {
		return fmt.Errorf("the number of its chunks: %w", eof(err))
	}
	if chunks > b.room || head.At >= max(chunks, 1)*chunkSize || chunks == 0 && head.At > 0 {
		return fmt.Errorf("%d of %d chunks, and the next entry at byte %d", chunks, b.room, head.At)
	}
	for i := range chunks {
		c := newChunk()
		if c.bytes == nil {
			return errors.New("no memory for its chunks; raise the memory limit")
		}
		// An entry ends before the last byte of a chunk: the rest of it can be all that was written.
		c.written = chunkSize - 1
		b.chunks = append(b.chunks, c)
		if _, err := io.ReadFull(r, c.bytes[:]); err != nil {
			return fmt.Errorf("chunk %d: %w", i, eof(err))
		}
	}
	b.gen, b.at = head.Gen, head.At
	return nil
}

// loadIndex reads entries a few at a time: a damaged number of them takes no memory for what is not there.
func (b *bucket) loadIndex(r io.Reader, entries uint64) error {
	var buf [4096]byte
	for entries > 0 {
		some := buf[:min(entries*slotSize, uint64(len(buf)))]
		if _, err := io.ReadFull(r, some); err != nil {
			return fmt.Errorf("its index: %w", eof(err))
		}
		for ; len(some) > 0; some = some[slotSize:] {
			h, at := hash(binary.LittleEndian.Uint64(some)), place(binary.LittleEndian.Uint64(some[8:]))
			if at != 0 && !b.index.put(h, at) {
				return errors.New("no memory for its index; raise the memory limit")
			}
			entries--
		}
	}
	return nil
}

// eof makes the end of a file an error where more must come.
func eof(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
