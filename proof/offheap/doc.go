// Package offheap holds models of the types of the package of that name, which rapid drives: each does
// the same to one of them and to what Go has in its place. It has no code of its own. More of them:
//
//	go test ./proof/offheap -rapid.checks=10000 -timeout 0
package offheap
