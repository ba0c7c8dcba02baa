package offheap

// LastGeneration is the last generation of a Ref.
const LastGeneration = lastGeneration

// RefWords returns how many words the table has, and how many shards.
func RefWords() (words, shards int) {
	for i := range refs.root {
		leaf := refs.root[i].Load()
		if leaf == nil {
			break
		}
		for j := range leaf.chunks {
			if leaf.chunks[j].Load() != nil {
				words += chunkWords
			}
		}
	}
	return words, len(refs.shards)
}

// Age lets the word of a Ref have had n generations, and returns the Ref as it is then.
func Age[T any](r Ref[T], n uint64) Ref[T] {
	index, _ := r.split()
	p := index.find()
	p.Store(uint64(wordOf(generation(n), refWord(p.Load()).granule())))
	return Ref[T](n<<indexBits | uint64(index))
}

// Generation returns which generation of its word a Ref is.
func Generation[T any](r Ref[T]) uint64 { _, g := r.split(); return uint64(g) }

// SameWord reports whether Refs have the same word.
func SameWord[T any](a, b Ref[T]) bool {
	i, _ := a.split()
	j, _ := b.split()
	return i == j
}
