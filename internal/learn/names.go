package learn

import (
	"fmt"
	"strings"
)

// nameOf returns the name of a value, or its number if it has none.
func nameOf[T ~uint8](names []string, x T) string {
	if int(x) < len(names) {
		return names[x]
	}
	return fmt.Sprintf("%d", x)
}

// named sets x to the value that has this name. what says in the error what it would be.
func named[T ~uint8](x *T, names []string, what string, name []byte) error {
	for i, n := range names {
		if n == string(name) {
			*x = T(i)
			return nil
		}
	}
	return fmt.Errorf("learn: no %s %q, want one of %s", what, name, strings.Join(names, ", "))
}
