package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/hakmem/hakmem/adapters/compare/internal/measure"
)

// ours is the path of hakmem's module, and in front of the paths of its other modules.
const ours = "github.com/hakmem/hakmem"

// run builds the programs, runs all variants, and makes the table.
func (s *settings) run() (*table, error) {
	temp, err := os.MkdirTemp("", "compare")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(temp)
	c := &s.comparison
	programs := map[bool]string{} // by whether a module is replaced
	for _, v := range c.variants {
		if programs[v.replaced] == "" {
			if programs[v.replaced], err = s.build(temp, v.replaced); err != nil {
				return nil, err
			}
		}
	}
	setting := measure.Setting{Comparison: c.name, Scale: s.scale, Later: c.later, Dir: temp}
	if c.prepares {
		setting.Prepare = true
		if _, err := s.child(programs[c.variants[0].replaced], setting); err != nil {
			return nil, err
		}
		setting.Prepare = false
	}
	var all []row
	for _, setting.Goroutines = range c.loads {
		rows := make([]row, len(c.variants))
		for i, v := range c.variants {
			rows[i] = row{variant: v, goroutines: setting.Goroutines}
		}
		for n := range s.runs {
			for i, v := range c.variants {
				fmt.Fprintf(s.words, "%s, goroutines: %d, run %d of %d: %s: ", c.name, setting.Goroutines, n+1, s.runs, v.name)
				setting.Variant = v.name
				out, err := s.child(programs[v.replaced], setting)
				if err != nil {
					return nil, err
				}
				var r measure.Result
				if err := json.Unmarshal(out, &r); err != nil {
					return nil, fmt.Errorf("%s, variant %q, printed %q: %w", c.name, v.name, out, err)
				}
				fmt.Fprintf(s.words, "%.2f s\n", r.Seconds)
				rows[i].results = append(rows[i].results, r)
			}
		}
		if err := agree(rows); err != nil {
			return nil, err
		}
		all = append(all, rows...)
	}
	return s.table(all), nil
}

// row is what was measured of a variant, by so many goroutines.
type row struct {
	variant    variant
	goroutines int
	results    []measure.Result
}

// agree returns an error if two runs of a load have different answers.
func agree(rows []row) error {
	for _, r := range rows {
		for _, result := range r.results {
			if first := rows[0].results[0].Sum; result.Sum != first {
				return fmt.Errorf("the sum of all answers of %q is %d, that of %q is %d: one of them is wrong, and nothing can be compared", r.variant.name, result.Sum, rows[0].variant.name, first)
			}
		}
	}
	return nil
}

// child runs a program once.
func (s *settings) child(program string, setting measure.Setting) ([]byte, error) {
	arg, err := json.Marshal(setting)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, string(arg))
	cmd.Stderr = s.words
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s, variant %q: %w", setting.Comparison, setting.Variant, err)
	}
	return out, nil
}

// build compiles the program of the comparison, and returns where it is. The modules of hakmem are those of the tree,
// whether the go command uses its workspace or not: a workspace allows no other go.mod.
func (s *settings) build(temp string, replaced bool) (program string, err error) {
	fmt.Fprintf(s.words, "building %s", s.comparison.program)
	if replaced {
		fmt.Fprintf(s.words, " with %s in the place of %s", memoryAdapter, memoryModule)
	}
	fmt.Fprintln(s.words, " …")
	tree, err := goCommand("", nil, "list", "-m", "-f", "{{.Dir}}", ours)
	if err != nil {
		return "", fmt.Errorf("%w\nrun it in a clone of hakmem, with its go.work", err)
	}
	here := filepath.Join(tree, "adapters", "compare")
	modFile := filepath.Join(temp, fmt.Sprintf("replaced-%t.mod", replaced))
	for from, to := range map[string]string{"go.mod": modFile, "go.sum": strings.TrimSuffix(modFile, ".mod") + ".sum"} {
		text, err := os.ReadFile(filepath.Join(here, from))
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(to, text, 0o600); err != nil {
			return "", err
		}
	}
	alone := []string{"GOWORK=off"}
	edits, err := replacements(tree, modFile, replaced)
	if err != nil {
		return "", err
	}
	if _, err := goCommand(here, alone, append(append([]string{"mod", "edit"}, edits...), modFile)...); err != nil {
		return "", err
	}
	program = filepath.Join(temp, fmt.Sprintf("replaced-%t.exe", replaced))
	_, err = goCommand(here, alone, "build", "-mod=mod", "-modfile="+modFile, "-o", program, "./programs/"+s.comparison.program)
	return program, err
}

// replacements returns the arguments of go mod edit by which the modules are those of the tree.
func replacements(tree, modFile string, replaced bool) (edits []string, err error) {
	text, err := goCommand("", []string{"GOWORK=off"}, "mod", "edit", "-json", modFile)
	if err != nil {
		return nil, err
	}
	var file struct{ Require []struct{ Path string } }
	if err := json.Unmarshal([]byte(text), &file); err != nil {
		return nil, err
	}
	for _, r := range file.Require {
		if sub, is := strings.CutPrefix(r.Path+"/", ours+"/"); is {
			edits = append(edits, "-replace="+r.Path+"="+filepath.Join(tree, filepath.FromSlash(sub)))
		}
	}
	if replaced {
		edits = append(edits, "-replace="+memoryModule+"="+filepath.Join(tree, filepath.FromSlash(memoryAdapter)))
	}
	return edits, nil
}

// goCommand runs a go command, with more in its environment, and returns what it prints.
func goCommand(dir string, more []string, args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), more...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %q: %w\n%s", args, err, complaint.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
}
