// Package modules holds the tests of the tree as its users get it: module by module, by version,
// from a module proxy, without go.work. It has no code of its own.
//
// The versions that the modules require of each other are released from the commit that requires
// them (docs/releasing.md), so that nobody can fetch them while that commit is written. The tests
// pack the tree's modules as these versions into a proxy of their own and build from there.
package modules
