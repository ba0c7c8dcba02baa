package engine

// due reports whether the front's next sample is due, and draws another interval.
// counted: this allocation has been through a fast path, which counts.
func due(own Front, counted bool) bool {
	next := sampleInterval() // not while entered
	f, tok := enter(own)
	for f == trapFront { // where fronts are locked, what follows may get another one
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
