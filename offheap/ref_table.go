package offheap

import (
	"math/bits"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
)

// This file is the table that says which Refs are valid. It has a word for each Ref that is, and for
// each one that can be made without more memory.
//
// The word cannot be in the block: hakmem hands a freed block's memory out again, to anybody, and what
// is written there could look like any generation. So the words have a place of their own. They are
// cut from chunks, and a chunk is an object of Go's heap without pointers, into which the collector does
// not look. A Get whose Ref is stale may read a word of a chunk that is given up at that moment; the
// collector keeps the chunk until it has done so. Memory that is freed by hand could not be given up at
// all.

const (
	// A word has the number of a block's first granule, which is its address by 16, in its low bits. No
	// address of hakmem's has more than 48 bits. The bits above it are the generation. When a word has
	// had all of them it is not used again, which loses 8 bytes for a million frees.
	granuleBits    = 44
	generationBits = 64 - granuleBits
	lastGeneration = 1<<generationBits - 1
	granuleShift   = 4

	// A Ref has the generation in its high half and the number of its word in the low half.
	indexBits = 32

	// chunkWords is the number of words in a chunk: 8 KiB, so that a program with few Refs has few of
	// them for each shard and a program with 10^8 Refs has 10^5 chunks, which the collector marks in
	// some milliseconds.
	chunkBits  = 10
	chunkWords = 1 << chunkBits

	// leafChunks is the number of chunks that one part of the directory leads to. The first part is a
	// variable of 32 KiB, of which only what is used gets memory.
	leafBits   = 10
	leafChunks = 1 << leafBits
	rootLeaves = 1 << (indexBits - chunkBits - leafBits)
	mostChunks = rootLeaves * leafChunks

	// spareWords is how many free words a shard must have elsewhere before it gives up a chunk without
	// Refs. So a program that makes and frees the same few Refs does not make a chunk each time.
	spareWords = chunkWords

	// mostShards bounds the chunks that are partly used. With as many shards as goroutines that run, two
	// of which seldom want the same, more would not help; beyond 64 they would take 1 MiB.
	mostShards = 64
)

// generation counts the Refs that a word was used for. The first is 1, so that no Ref is 0.
type generation uint64

// wordIndex is the number of a word in the whole table.
type wordIndex uint32

func (i wordIndex) chunk() chunkIndex { return chunkIndex(i >> chunkBits) }
func (i wordIndex) word() uint32      { return uint32(i) % chunkWords }

type chunkIndex uint32

func (c chunkIndex) first() wordIndex { return wordIndex(c) << chunkBits }

// refWord is a granule and the generation of the Ref that leads to it. If no Ref does, it is the
// generation of the next one and, in place of the granule, the next free word of the chunk plus one, or 0.
type refWord uint64

func wordOf(g generation, granule uint64) refWord {
	return refWord(uint64(g)<<granuleBits | granule)
}

func (w refWord) generation() generation { return generation(w >> granuleBits) }
func (w refWord) granule() uint64        { return uint64(w) & (1<<granuleBits - 1) }

// leadsToBlock reports whether a Ref has the word. No block is in the first pages of the address space.
func (w refWord) leadsToBlock() bool { return w.granule() > chunkWords }

type refChunk [chunkWords]atomic.Uint64

// chunkState is what a shard knows of a chunk. It is guarded by the shard's lock.
type chunkState struct {
	shard   uint8
	retired bool       // some of its words have had all generations
	free    uint16     // the first free word, plus one
	live    uint16     // words that Refs have
	base    generation // if the chunk was given up: what its words begin with
	place   int32      // where it is in the shard's list of chunks with free words; -1 if it is not there
}

type refLeaf struct {
	chunks [leafChunks]atomic.Pointer[refChunk]
	states [leafChunks]chunkState
}

// refShard has some of the chunks. A free goes to the shard of the word, a new Ref comes from any.
type refShard struct {
	sync.Mutex
	open  []chunkIndex // chunks with free words
	away  []chunkIndex // chunks that were given up
	spare int          // free words in open
	_     [64]byte     // the next shard is on another cache line
}

var refs struct {
	root   [rootLeaves]atomic.Pointer[refLeaf]
	shards []refShard

	growing sync.Mutex
	made    chunkIndex // chunks that were ever made. Under growing
}

func init() {
	refs.shards = make([]refShard, min(mostShards, 1<<bits.Len(uint(runtime.GOMAXPROCS(0)-1))))
}

func (c chunkIndex) leaf() (*refLeaf, uint32) {
	return refs.root[c>>leafBits].Load(), uint32(c) % leafChunks
}

func (c chunkIndex) state() *chunkState {
	leaf, i := c.leaf()
	return &leaf.states[i]
}

// find returns the word with the given number, or nil if it has no chunk.
func (i wordIndex) find() *atomic.Uint64 {
	leaf, at := i.chunk().leaf()
	if leaf == nil {
		return nil
	}
	chunk := leaf.chunks[at].Load()
	if chunk == nil {
		return nil
	}
	return &chunk[i.word()]
}

// lookUp returns the granule to which the word leads, if it is still that of the generation, or 0.
func (i wordIndex) lookUp(g generation) uint64 {
	if p := i.find(); p != nil {
		if w := refWord(p.Load()); w.generation() == g && w.leadsToBlock() {
			return w.granule()
		}
	}
	return 0
}

// lockShard locks a shard that nobody else has, if there is one.
func lockShard() *refShard {
	n := uint32(len(refs.shards))
	at := rand.Uint32N(n)
	for range n {
		if s := &refs.shards[at]; s.TryLock() {
			return s
		}
		at = (at + 1) % n
	}
	refs.shards[at].Lock()
	return &refs.shards[at]
}

// takeWord makes a word lead to a granule. It returns false if all are in use.
func takeWord(granule uint64) (wordIndex, generation, bool) {
	s := lockShard()
	defer s.Unlock()
	if len(s.open) == 0 && !s.grow() {
		return 0, 0, false
	}
	c := s.open[len(s.open)-1]
	state := c.state()
	index := c.first() + wordIndex(state.free-1)
	p := index.find()
	w := refWord(p.Load())
	state.free = uint16(w.granule())
	state.live++
	s.spare--
	if state.free == 0 {
		s.unlist(c)
	}
	p.Store(uint64(wordOf(w.generation(), granule)))
	return index, w.generation(), true
}

// grow opens a chunk: one that was given up, or a new one.
func (s *refShard) grow() bool {
	var c chunkIndex
	if n := len(s.away); n > 0 {
		c, s.away = s.away[n-1], s.away[:n-1]
	} else if !s.newChunk(&c) {
		return false
	}
	leaf, at := c.leaf()
	state := &leaf.states[at]
	chunk := new(refChunk)
	for i := range chunk {
		chunk[i].Store(uint64(wordOf(state.base, uint64(i+2)%(chunkWords+1))))
	}
	state.free = 1
	s.spare += chunkWords
	s.list(c)
	leaf.chunks[at].Store(chunk)
	return true
}

func (s *refShard) newChunk(c *chunkIndex) bool {
	refs.growing.Lock()
	defer refs.growing.Unlock()
	if refs.made == mostChunks {
		return false
	}
	*c = refs.made
	refs.made++
	leaf := &refs.root[*c>>leafBits]
	if leaf.Load() == nil {
		leaf.Store(new(refLeaf))
	}
	*c.state() = chunkState{shard: s.number(), base: 1}
	return true
}

func (s *refShard) number() uint8 {
	for i := range refs.shards {
		if s == &refs.shards[i] {
			return uint8(i)
		}
	}
	panic("offheap: a shard that is not in the table")
}

func (s *refShard) list(c chunkIndex) {
	c.state().place = int32(len(s.open))
	s.open = append(s.open, c)
}

func (s *refShard) unlist(c chunkIndex) {
	at, last := c.state().place, s.open[len(s.open)-1]
	s.open[at] = last
	last.state().place = at
	c.state().place = -1
	s.open = s.open[:len(s.open)-1]
}

// giveBack ends the generation g of a word. It returns the granule to which the word led, or 0 if it is
// of another generation: then nothing has changed. Of several calls at once one gets the granule.
func (i wordIndex) giveBack(g generation) (granule uint64) {
	leaf, at := i.chunk().leaf()
	if leaf == nil || i.lookUp(g) == 0 {
		return 0
	}
	c := i.chunk()
	s := &refs.shards[leaf.states[at].shard]
	s.Lock()
	defer s.Unlock()
	p := i.find() // another free may have been here meanwhile
	if p == nil {
		return 0
	}
	w := refWord(p.Load())
	if w.generation() != g || !w.leadsToBlock() {
		return 0
	}
	state := &leaf.states[at]
	state.live--
	if g == lastGeneration {
		state.retired = true
		p.Store(0)
	} else {
		p.Store(uint64(wordOf(g+1, uint64(state.free))))
		state.free = uint16(i.word()) + 1
		s.spare++
		if state.place < 0 {
			s.list(c)
		}
	}
	if state.live == 0 && !state.retired && s.spare-chunkWords >= spareWords {
		s.giveUp(c)
	}
	return w.granule()
}

// giveUp drops a chunk without Refs. If it is made again its generations go on where they ended.
func (s *refShard) giveUp(c chunkIndex) {
	leaf, at := c.leaf()
	chunk, state := leaf.chunks[at].Load(), &leaf.states[at]
	for i := range chunk {
		state.base = max(state.base, refWord(chunk[i].Load()).generation())
	}
	leaf.chunks[at].Store(nil)
	s.spare -= chunkWords
	s.unlist(c)
	s.away = append(s.away, c)
}
