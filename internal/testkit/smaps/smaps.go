// Package smaps reads what Linux reports of the mappings of this process, for tests. It depends on no
// other package that reserves or returns memory, so that their tests can use it.
package smaps

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/hakmem/hakmem/internal/mem"
)

// Mapping is one mapping of the process, from From to To.
type Mapping struct {
	From, To mem.Addr
	Readable bool
	Resident mem.Bytes
	Flags    []string // two letters each, as in proc_pid_smaps(5)
	Name     string   // of its file, or as "[anon:NAME]" the one that the program gave it; may be empty
}

// Size returns the bytes of the mapping.
func (m Mapping) Size() mem.Bytes { return m.To.From(m.From) }

// Has reports whether the mapping has a flag.
func (m Mapping) Has(flag string) bool { return slices.Contains(m.Flags, flag) }

// Read returns the mappings, by address.
func Read() (list []Mapping, err error) {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var from, to uint64
		var access string
		if n, _ := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &access); n == 3 {
			name := ""
			if fields := strings.Fields(lines.Text()); len(fields) > 5 { // behind access, offset, device and inode
				name = strings.Join(fields[5:], " ")
			}
			list = append(list, Mapping{From: mem.Addr(from), To: mem.Addr(to), Readable: access[0] == 'r', Name: name})
			continue
		}
		switch fields := strings.Fields(lines.Text()); fields[0] {
		case "Rss:":
			kib, err := strconv.ParseUint(fields[1], 10, 64)
			if err != nil {
				return nil, err
			}
			list[len(list)-1].Resident = mem.Bytes(kib << 10)
		case "VmFlags:":
			list[len(list)-1].Flags = fields[1:]
		}
	}
	return list, lines.Err()
}

// At returns the mapping that contains an address, and whether there is one.
func At(a mem.Addr) (m Mapping, found bool, err error) {
	list, err := Read()
	if err != nil {
		return m, false, err
	}
	i := slices.IndexFunc(list, func(m Mapping) bool { return m.From <= a && a < m.To })
	if i < 0 {
		return m, false, nil
	}
	return list[i], true, nil
}
