package offheap_test

import (
	"bufio"
	"fmt"
	"slices"
	"strings"

	"github.com/hakmem/hakmem/offheap"
)

// A StringMap counts words: each word is copied once, and the collector sees none of them.
func ExampleStringMap() {
	counts := offheap.NewStringMap[int]()
	defer counts.Close()
	words := bufio.NewScanner(strings.NewReader("the cat saw the dog and the dog saw the cat"))
	words.Split(bufio.ScanWords)
	for words.Scan() {
		n, _ := counts.PutPtrBytes(words.Bytes())
		*n++
	}
	var lines []string
	for word, n := range counts.All() {
		lines = append(lines, fmt.Sprintf("%d %s", n, word)) // a copy: word is valid in this step only
	}
	slices.Sort(lines)
	fmt.Println(strings.Join(lines, "\n"))
	// Output:
	// 1 and
	// 2 cat
	// 2 dog
	// 2 saw
	// 4 the
}

func ExampleMap() {
	type point struct{ X, Y int32 }
	m := offheap.NewMap[point, float64]()
	defer m.Close()
	m.Put(point{1, 2}, 0.5)
	m.Put(point{3, 4}, 1.5)
	v, ok := m.Get(point{1, 2})
	fmt.Println(v, ok, m.Len())
	for p := range m.All() {
		if p.X > 1 {
			m.Delete(p) // the loop goes on
		}
	}
	_, ok = m.Get(point{3, 4})
	fmt.Println(ok, m.Len())
	// Output:
	// 0.5 true 2
	// false 1
}

// node is a node of a binary tree in hakmem's memory. A pointer to a node could not be stored there.
type node struct {
	left, right offheap.Ref[node]
	key         int
}

// insert adds a key to the tree with the given root and returns its root.
func insert(root offheap.Ref[node], key int) offheap.Ref[node] {
	if root == 0 {
		root = offheap.NewRef[node]()
		root.Get().key = key
		return root
	}
	switch n := root.Get(); {
	case key < n.key:
		n.left = insert(n.left, key)
	case key > n.key:
		n.right = insert(n.right, key)
	}
	return root
}

// inOrder calls f for each key of a tree.
func inOrder(root offheap.Ref[node], f func(key int)) {
	if root != 0 {
		n := root.Get()
		inOrder(n.left, f)
		f(n.key)
		inOrder(n.right, f)
	}
}

// freeTree frees all nodes of a tree.
func freeTree(root offheap.Ref[node]) {
	if root != 0 {
		n := root.Get()
		freeTree(n.left)
		freeTree(n.right)
		root.Free()
	}
}

// Refs make a tree of blocks. A Ref that is used after its node was freed is found.
func ExampleRef() {
	var root offheap.Ref[node]
	for _, key := range []int{50, 20, 80, 10, 30, 70} {
		root = insert(root, key)
	}
	var keys []int
	inOrder(root, func(key int) { keys = append(keys, key) })
	fmt.Println(keys)
	left := root.Get().left
	freeTree(root)
	_, ok := left.TryGet()
	fmt.Println("the left child is there:", ok)
	// Output:
	// [10 20 30 50 70 80]
	// the left child is there: false
}
