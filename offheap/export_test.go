package offheap

import "fmt"

// Chunks returns the sizes of a Buffer's chunks.
func Chunks(b *Buffer) (sizes []int) {
	if b.h != nil {
		for i := range b.h.chunks {
			sizes = append(sizes, len(b.h.chunks[i].mem))
		}
	}
	return sizes
}

// CheckBuffer returns what is wrong with a Buffer's books.
func CheckBuffer(b *Buffer) error {
	if b.h == nil {
		return nil
	}
	r := b.h.rope
	if r.base > r.pos || r.pos > r.end {
		return fmt.Errorf("held from %d, position %d, end %d", r.base, r.pos, r.end)
	}
	if len(r.chunks) == 0 {
		if r.reader != 0 || r.writer != 0 || r.room != 0 || r.base != r.end {
			return fmt.Errorf("no chunks: %+v", *r)
		}
		return nil
	}
	if r.reader < 0 || r.reader > r.writer || r.writer >= len(r.chunks) {
		return fmt.Errorf("reader %d, writer %d of %d chunks", r.reader, r.writer, len(r.chunks))
	}
	at, room := r.base, 0
	for i := range r.chunks {
		c := &r.chunks[i]
		if c.from < 0 || c.from > c.to || c.to > len(c.mem) || len(c.mem) == 0 {
			return fmt.Errorf("chunk %d: bytes %d to %d of %d", i, c.from, c.to, len(c.mem))
		}
		if i <= r.writer && c.at != at {
			return fmt.Errorf("chunk %d begins at %d, and the bytes before it end at %d", i, c.at, at)
		}
		if i > r.writer && c.to > 0 {
			return fmt.Errorf("chunk %d behind the writer has %d bytes", i, c.to)
		}
		if i < r.reader && c.end() > r.pos {
			return fmt.Errorf("chunk %d ends at %d, and the position %d is in chunk %d", i, c.end(), r.pos, r.reader)
		}
		if i == r.reader && c.at > r.pos {
			return fmt.Errorf("chunk %d begins at %d, behind the position %d", i, c.at, r.pos)
		}
		if i >= r.writer {
			room += len(c.mem) - c.to
		}
		at += place(c.to - c.from)
	}
	if at != r.end || room != r.room {
		return fmt.Errorf("chunks end at %d and have room for %d, the rope ends at %d and has %d", at, room, r.end, r.room)
	}
	return nil
}

// LockInterner takes the locks of all shards.
func LockInterner(in *Interner) {
	for i := range in.t.shards {
		in.t.shards[i].mu.Lock()
	}
}

// UnlockInterner ends what LockInterner began.
func UnlockInterner(in *Interner) {
	for i := range in.t.shards {
		in.t.shards[i].mu.Unlock()
	}
}

// InternWithHash is what Intern does with a string that it has not found, as if its hash were this one.
func InternWithHash(in *Interner, hash uint64, s string) String {
	return in.t.shards[hash%internShards].add(in.t.seed, hash, s)
}

// StringsInShards returns the number of strings in each shard.
func StringsInShards(in *Interner) (n []int64) {
	for i := range in.t.shards {
		n = append(n, in.t.shards[i].n.Load())
	}
	return n
}
