package docs

import (
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// checker looks for names that do not exist in one page.
type checker struct {
	tree     *tree
	page     *page
	problems []problem
	seen     map[string]int // how many references of each kind it looked at
	excused  map[string]bool
}

// problem is a name that does not exist.
type problem struct {
	page string
	line int
	kind string
	text string
}

func (p problem) String() string { return fmt.Sprintf("%s:%d: %s %s", p.page, p.line, p.kind, p.text) }

// The kinds of references.
const (
	kindPath    = "path"
	kindTest    = "test"
	kindSetting = "setting"
	kindTag     = "build tag"
	kindVerb    = "verb"
	kindFlag    = "flag"
	kindRun     = "-run"
	kindName    = "name"
	kindPlace   = "place" // a name that the page says is in a file
	kindPublic  = "public name"
	kindLink    = "link"
	kindSection = "section"
)

var kinds = []string{kindPath, kindTest, kindSetting, kindTag, kindVerb, kindFlag, kindRun, kindName, kindPlace, kindPublic, kindLink, kindSection}

// history is the page with the names of their time.
const history = "docs/ledger.md"

// bases are directories in addition to the root. A page may name the files in them without their
// directory, because the page says so, or because they are the page's subject.
var bases = map[string][]string{
	"docs/concurrency.md": {"internal/engine"},
	"docs/design.md":      {"internal/engine"},
	"docs/testing.md":     {"proof", "internal/engine"},
	"docs/coverage.md":    {"internal"}, // whose table leaves it out
}

// check looks at everything in the page.
func check(tr *tree, p *page) *checker {
	c := &checker{tree: tr, page: p, seen: map[string]int{}, excused: map[string]bool{}}
	c.links()
	if p.name == history {
		return c
	}
	for _, chunk := range slices.Concat(p.chunks, p.blocks) {
		c.sections(chunk)
		c.paths(chunk)
		c.plainNames(chunk)
	}
	for _, chunk := range p.chunks {
		c.places(chunk)
		for _, span := range chunk.code() {
			c.command(span)
			c.identifier(span)
			if chunk.head == "verb" && strings.HasPrefix(chunk.text, "| `") {
				if cell := firstCell(chunk.text); strings.Contains(cell, "`"+span.text+"`") {
					c.command(reference{span.line, "hakmem " + span.text})
				}
			}
		}
	}
	for _, block := range p.blocks {
		text := strings.ReplaceAll(block.text, "\\\n", "  ")
		for i, line := range strings.Split(text, "\n") {
			line, _, _ = strings.Cut(line, " # ")
			c.command(reference{block.line + i, line})
		}
	}
	return c
}

func (c *checker) saw(kind string, line int, ok bool, format string, args ...any) {
	c.seen[kind]++
	text := fmt.Sprintf(format, args...)
	if ok {
		return
	}
	if exceptions[text] != "" {
		c.excused[text] = true
		return
	}
	c.problems = append(c.problems, problem{c.page.name, line, kind, text})
}

// links checks that relative links lead somewhere.
func (c *checker) links() {
	for _, link := range c.page.links {
		target, anchor, _ := strings.Cut(link.text, "#")
		if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
			continue
		}
		file := c.page.name
		if target != "" {
			file = path.Join(path.Dir(c.page.name), target)
		}
		to := c.tree.pages[file]
		if file == c.page.name {
			to = c.page
		}
		c.saw(kindLink, link.line, (to == c.page || c.tree.paths[file]) && (anchor == "" || to != nil && to.anchors[anchor]), "%s", link.text)
	}
}

var (
	sectionPattern = regexp.MustCompile(`(?:([\w/]+\.md)[\])]*,\s)?\b[Ss]ection\s(\d+)`)
	headingPattern = regexp.MustCompile(`(?:([\w/]+\.md)\]?\s\(|\(?(ledger),\s)"([^"]+)"`)
)

// sections checks "section 3", "design.md, section 3" and "security.md ("Heading")".
func (c *checker) sections(text chunk) {
	other := func(name string) *page {
		switch {
		case name == "":
			return c.page
		case name == "ledger":
			return c.tree.pages[history]
		case c.tree.pages[name] != nil:
			return c.tree.pages[name]
		}
		return c.tree.pages[path.Join(path.Dir(c.page.name), name)]
	}
	for _, m := range sectionPattern.FindAllStringSubmatchIndex(text.text, -1) {
		name, number := group(text.text, m, 1), group(text.text, m, 2)
		p := other(name)
		ok := p != nil && slices.ContainsFunc(p.heads, func(h string) bool { return strings.HasPrefix(h, number+". ") })
		c.saw(kindSection, text.lineAt(m[0]), ok, "%s %s", name, number)
	}
	for _, m := range headingPattern.FindAllStringSubmatchIndex(text.text, -1) {
		name, head := group(text.text, m, 1)+group(text.text, m, 2), strings.Join(strings.Fields(group(text.text, m, 3)), " ")
		p := other(name)
		ok := p != nil && slices.ContainsFunc(p.heads, func(h string) bool { return strings.HasPrefix(h, head) })
		c.saw(kindSection, text.lineAt(m[0]), ok, "%s %q", name, head)
	}
}

func group(text string, m []int, i int) string {
	if m[2*i] < 0 {
		return ""
	}
	return text[m[2*i]:m[2*i+1]]
}

var (
	pathPattern      = regexp.MustCompile(`(?:\./|\.\./)?[\w.…-]*\w(?:/[\w.…-]+)*/?`)
	extensionPattern = regexp.MustCompile(`\w\.(?:go|s|h|c|sh|md|tmpl|txt|mod|sum|work)$`)
	versionPattern   = regexp.MustCompile(`/v\d+\.\d+\.\d+$`)
	sentencePattern  = regexp.MustCompile(`[;|]|\.\s`)
)

// paths checks names of files anywhere in the text, and names of directories: below one of the
// root's, or the whole of a code span. A file without a directory may be in that of the file before
// it in the same sentence or cell.
func (c *checker) paths(text chunk) {
	spans := map[string]bool{}
	for _, s := range text.code() {
		spans[s.text] = true
	}
	before, end := "", 0 // the directory of the path before, and where that path ends
	for _, m := range pathPattern.FindAllStringIndex(text.text, -1) {
		word := strings.TrimRight(text.text[m[0]:m[1]], ".")
		if m[0] > 0 && strings.ContainsRune("/*$@=:~", rune(text.text[m[0]-1])) {
			continue // the rest of another kind of word
		}
		if m[1] < len(text.text) && text.text[m[1]] == '*' {
			continue
		}
		word = strings.TrimSuffix(strings.TrimSuffix(word, "..."), "/")
		own := word == "github.com/hakmem/hakmem" || strings.HasPrefix(word, "github.com/hakmem/hakmem/")
		word = strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(word, "github.com/hakmem/hakmem"), "…/hakmem"), "/")
		word = versionPattern.ReplaceAllString(word, "")
		first, _, deep := strings.Cut(strings.TrimPrefix(word, "./"), "/")
		isFile := extensionPattern.MatchString(word)
		switch {
		case word == "", word == ".", word == "..", word == "v0.1.0":
			continue
		case !own && strings.Contains(first, ".") && deep && first != ".ci" && first != "..": // a domain
			continue
		case strings.HasPrefix(word, "../"):
			continue // relative to a directory that the text names
		case isFile, own, strings.HasPrefix(word, "./"), deep && c.tree.paths[first], deep && len(first) > 1 && spans[text.text[m[0]:m[1]]]:
		default:
			continue
		}
		clean := path.Clean(strings.TrimPrefix(word, "./"))
		from := []string{".", path.Dir(c.page.name)}
		from = append(from, bases[c.page.name]...)
		if before != "" && !sentencePattern.MatchString(text.text[end:m[0]]) {
			from = append(from, before)
		}
		found := slices.IndexFunc(from, func(dir string) bool { return c.tree.paths[path.Join(dir, clean)] })
		c.saw(kindPath, text.lineAt(m[0]), found >= 0, "%s", word)
		if found >= 0 && isFile {
			before, end = path.Dir(path.Join(from[found], clean)), m[1]
		}
	}
}

var testNamePattern = regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark)[A-Z]\w*`)
var runPattern = regexp.MustCompile(`-run[ =]('[^']*'|[^\s` + "`" + `]+)`)
var publicPattern = regexp.MustCompile(`\bhakmem\.([A-Z]\w*)`)

// plainNames checks the names that tell by themselves what they are.
func (c *checker) plainNames(text chunk) {
	rest := text.text
	for _, m := range runPattern.FindAllStringSubmatchIndex(text.text, -1) {
		pattern := strings.ReplaceAll(strings.Trim(text.text[m[2]:m[3]], "'"), `\|`, "|")
		for alternative := range strings.SplitSeq(pattern, "|") {
			re, err := regexp.Compile(alternative)
			ok := err == nil && slices.ContainsFunc(slices.Collect(maps.Keys(c.tree.tests)), re.MatchString)
			c.saw(kindRun, text.lineAt(m[0]), ok, "%s", alternative)
		}
		rest = rest[:m[2]] + strings.Repeat("_", m[3]-m[2]) + rest[m[3]:]
	}
	each := func(re *regexp.Regexp, kind string, known map[string]bool) {
		for _, m := range re.FindAllStringIndex(rest, -1) {
			name := rest[m[0]:m[1]]
			c.saw(kind, text.lineAt(m[0]), known[name], "%s", name)
		}
	}
	each(testNamePattern, kindTest, c.tree.tests)
	each(settingPattern, kindSetting, c.tree.settings)
	each(tagPattern, kindTag, c.tree.tags)
	for _, m := range publicPattern.FindAllStringSubmatchIndex(rest, -1) {
		c.saw(kindPublic, text.lineAt(m[0]), c.tree.public[rest[m[2]:m[3]]], "%s", rest[m[0]:m[1]])
	}
}

var (
	// file.go `name`, `name`
	afterPattern = regexp.MustCompile("((?:[\\w.-]+/)+[\\w-]+|[\\w./-]*\\w\\.(?:go|h|s))`? \\(?(`\\w+`(?:(?:,| and) `\\w+`)*)")
	// **`name`, `name`** (file.go, file.go), and the same with one name and no bold face
	beforePattern = regexp.MustCompile("(\\*\\*[^*]+\\*\\*|`[\\w.\\[\\]]+`) \\(([^)]*)\\)")
	filePattern   = regexp.MustCompile(`[\w./-]*\w\.(?:go|h|s)\b`)
)

// places checks that a name is declared in the file next to it: "front.go `installFront`" and
// "`installFront` (front.go)".
func (c *checker) places(text chunk) {
	for _, m := range afterPattern.FindAllStringSubmatch(text.text, -1) {
		for _, name := range codePattern.FindAllStringSubmatch(m[2], -1) {
			c.place(text, strings.Index(text.text, m[0]), name[1], []string{strings.TrimPrefix(m[1], "./")})
		}
	}
	for _, m := range beforePattern.FindAllStringSubmatch(text.text, -1) {
		inside, _, _ := strings.Cut(m[2], ";")
		files := filePattern.FindAllString(inside, -1)
		if len(files) == 0 {
			continue
		}
		for _, name := range codePattern.FindAllStringSubmatch(m[1]+" "+inside, -1) {
			if filePattern.MatchString(name[1]) || !identifierPattern.MatchString(indexPattern.ReplaceAllString(name[1], "")) {
				continue
			}
			c.place(text, strings.Index(text.text, m[0]), name[1], files)
		}
	}
}

func (c *checker) place(text chunk, at int, name string, files []string) {
	name = indexPattern.ReplaceAllString(name, "")
	last := name[strings.LastIndex(name, ".")+1:]
	for file := range c.tree.declared[last] {
		for _, f := range files {
			if file == f || strings.HasSuffix(file, "/"+f) || strings.HasPrefix(file, f+"/") {
				c.saw(kindPlace, 0, true, "")
				return
			}
		}
	}
	c.saw(kindPlace, text.lineAt(at), false, "%s in %s", name, strings.Join(files, ", "))
}

var (
	commandPattern = regexp.MustCompile(`(?:^|[\s/&;])hakmem (\S+)(.*)`)
	wordFlag       = regexp.MustCompile(`(?:^|\s)--([a-z][\w-]*)`)
	goPattern      = regexp.MustCompile(`(?:^|\s)go (?:run|test|build|vet) .*`)
	scriptPattern  = regexp.MustCompile(`((?:[\w.-]+/)+[\w.-]+) --([a-z]\w*)`)
)

// goFlags are flags of the go command and of the programs that it makes of tests.
var goFlags = strings.Fields("run v timeout short fuzz tags race asan msan exec bench count ldflags mod args h help")

// command checks a line of a shell that runs hakmem, go or a script, and a flag by itself.
func (c *checker) command(line reference) {
	text := line.text
	if m := commandPattern.FindStringSubmatch(text); m != nil && strings.ToLower(m[1]) == m[1] && wordPattern.MatchString(m[1]) {
		flags, ok := c.tree.verbs[m[1]]
		c.saw(kindVerb, line.line, ok, "hakmem %s", m[1])
		rest, _, _ := strings.Cut(m[2], " -- ")
		rest, _, _ = strings.Cut(rest, " && ")
		for _, f := range wordFlag.FindAllStringSubmatch(rest, -1) {
			c.saw(kindFlag, line.line, !ok || flags[f[1]], "hakmem %s --%s", m[1], f[1])
		}
		if words := strings.Fields(rest); ok && len(words) > 0 && slices.Contains([]string{"bench", "compare"}, m[1]) {
			load := words[0]
			known := strings.HasPrefix(load, "-") || strings.ToUpper(load) == load || load == "all" || c.tree.loads[load]
			c.saw(kindName, line.line, known, "%s", load)
		}
		return
	}
	if m := goPattern.FindString(text); m != "" {
		c.goCommand(line.line, strings.Fields(m))
		return
	}
	if m := scriptPattern.FindStringSubmatch(text); m != nil {
		script, err := c.tree.read(m[1])
		c.saw(kindFlag, line.line, err == nil && strings.Contains(script, "--"+m[2]), "%s --%s", m[1], m[2])
		return
	}
	if strings.HasPrefix(text, "--") {
		for _, f := range wordFlag.FindAllStringSubmatch(text, -1) {
			known := slices.ContainsFunc(slices.Collect(maps.Values(c.tree.verbs)), func(flags map[string]bool) bool { return flags[f[1]] })
			c.saw(kindFlag, line.line, known, "--%s", f[1])
		}
	} else if strings.HasPrefix(text, "mstress ") || c.tree.loads[strings.Fields(text + " .")[0]] { // a workload and its flags
		for _, f := range wordFlag.FindAllStringSubmatch(text, -1) {
			c.saw(kindFlag, line.line, c.tree.verbs["bench"][f[1]] || c.tree.verbs["compare"][f[1]], "%s", text)
		}
	}
}

// goCommand checks the flags of go run and go test: each is the go command's, or one of the
// packages' it runs.
func (c *checker) goCommand(line int, words []string) {
	known := map[string]bool{}
	for _, f := range goFlags {
		known[f] = true
	}
	for _, w := range words {
		dir, all := strings.CutSuffix(w, "...")
		dir = path.Clean(dir)
		for d, flags := range c.tree.flags {
			if d == dir || w == "work" || all && (dir == "." || strings.HasPrefix(d, dir+"/")) {
				for f := range flags {
					known[f] = true
				}
			}
		}
	}
	for _, w := range words {
		name, ok := strings.CutPrefix(w, "-")
		name, _, _ = strings.Cut(name, "=")
		if !ok || !wordPattern.MatchString(name) && !strings.HasPrefix(name, "rapid.") {
			continue
		}
		c.saw(kindFlag, line, known[name] || strings.HasPrefix(name, "rapid."), "%s -%s", strings.Join(words[:min(3, len(words))], " "), name)
	}
}

var (
	indexPattern      = regexp.MustCompile(`\[[^\]]*\]`)
	identifierPattern = regexp.MustCompile(`^[*&]?([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?:\([^()]*\))?$`)
)

// identifier checks a code span that is one name, or names joined by dots. A name with a capital
// must be declared. One without may also be a word that the program prints or takes, a file, a verb
// or a part of the language.
func (c *checker) identifier(span reference) {
	m := identifierPattern.FindStringSubmatch(indexPattern.ReplaceAllString(span.text, ""))
	if m == nil || extensionPattern.MatchString(span.text) || strings.HasPrefix(span.text, "HAKMEM_") || testNamePattern.MatchString(span.text) || settingPattern.MatchString(span.text) || tagPattern.MatchString(span.text) {
		return
	}
	tr, names := c.tree, strings.Split(m[1], ".")
	first := names[0]
	ok := true
	switch {
	case len(names) == 1:
		ok = tr.declared[first] != nil
		if !ok && strings.ToLower(first) == first {
			ok = tr.words[first] || tr.paths[first] || tr.packages[first] || tr.verbs[first] != nil || tr.loads[first] || slices.Contains(language, first)
		}
	case tr.packages[first] && (isCapital(names[1]) || !tr.isVar(first)): // a package's name, and what it declares
		ok = slices.ContainsFunc(slices.Collect(maps.Keys(tr.declared[names[1]])), func(file string) bool {
			return filepath.Base(path.Dir(file)) == first || first == "hakmem" && tr.public[names[1]]
		})
	case slices.Contains(language, first):
	default:
		for i, name := range names {
			ok = ok && tr.declared[name] != nil
			if i > 0 {
				if members := tr.membersOf(names[i-1]); members != nil {
					ok = ok && members[name]
				}
			}
		}
		// A small letter and then a capital is a package and what it exports.
		ok = ok && (isCapital(first) || !isCapital(names[1]) || tr.isVar(first))
	}
	c.saw(kindName, span.line, ok, "%s", span.text)
}

func isCapital(name string) bool { return name[0] >= 'A' && name[0] <= 'Z' }

func (tr *tree) isVar(name string) bool { _, ok := tr.vars[name]; return ok }

// membersOf returns the fields and methods of a type or of a variable; nil if it is not known
// which type that is, or what it embeds.
func (tr *tree) membersOf(name string) map[string]bool {
	if tr.public[name] {
		name = "hakmem." + name
	} else if of := tr.vars[name]; of != "" {
		name = of
	}
	if tr.members[name] == nil || tr.fields[name] {
		return nil
	}
	members := maps.Clone(tr.members[name])
	for embedded := range tr.embeds[name] {
		more := tr.membersOf(embedded)
		if more == nil {
			return nil
		}
		maps.Copy(members, more)
	}
	return members
}
