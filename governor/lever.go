package governor

// lever is a limit that the governor moves: Go's, hakmem's, or the GC percent. It notices when something
// else moves it.
type lever[T comparable] struct {
	found T    // what Start found
	set   T    // what is in force, as far as the governor knows
	ours  bool // nothing else has moved it, and it is not to be left alone
}

// newLever returns the lever of a limit that was found to be v. With ours false it is never moved.
func newLever[T comparable](v T, ours bool) lever[T] { return lever[T]{v, v, ours} }

// notice compares the value in force with what the governor has set. It returns true if something else has
// set it since the governor last looked; then the lever is not moved again.
func (l *lever[T]) notice(now T) (foreign bool) {
	if !l.ours || now == l.set {
		return false
	}
	l.ours = false
	return true
}

// move sets v by swap, which returns what was in force before. If that is not what the governor has set,
// it is put back, and move returns it and true.
func (l *lever[T]) move(v T, swap func(T) T) (other T, foreign bool) {
	if !l.ours || v == l.set {
		return other, false
	}
	if was := swap(v); l.notice(was) {
		swap(was)
		return was, true
	}
	l.set = v
	return other, false
}
