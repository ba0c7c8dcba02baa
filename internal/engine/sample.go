package engine

// Which allocations are samples, for HAKMEM_GUARD=1/N. The countdown is a word of each front
// (sampleWord) and belongs to whoever has entered with the front.

// due counts this allocation and reports whether the front's next sample is due; if so it draws the
// interval to the one after it. counted says that the allocation has been through a fast path,
// which has counted it.
func due(own Front, counted bool) bool {
	next := sampleInterval() // not while entered
	f, tok := enter(own)
	for f == trapFront { // where fronts are locked, the next enter may get another one
		leave(tok)
		if !installFront(tok) {
			return false
		}
		kick() // the timer may have stopped with the last front
		f, tok = enter(own)
	}
	w := f.sampleWord()
	if !counted || tok >= 0 || Hardened() || own != 0 && AlwaysSlow() {
		*w--
	}
	is := *w <= 0
	if is {
		*w = next
	}
	leave(tok)
	return is
}
