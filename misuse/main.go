// Command misuse does with hakmem what a program must not do, one thing in each process, and
// reports the outcome.
//
//	go run ./misuse                  every case at every level; prints a table
//	go run ./misuse -run REGEXP      the cases whose names match
//	go run ./misuse -levels LIST     only these levels
//	go run ./misuse -markdown        the same as the tables of docs/security.md
//	go run ./misuse -rates N         how many of N misuses HAKMEM_GUARD=1/10 to 1/1000 finds
//	go run ./misuse -messages        a message for each kind and function
//	go run ./misuse CASE SIZE        one case in this process, as one line of JSON
//
// The expected outcomes are in testdata/outcomes.txt; the tests compare with it.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "misuse:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("misuse", flag.ExitOnError)
	only := flags.String("run", "", "only the cases whose names match this `regexp`")
	names := flags.String("levels", "", "only these levels, separated by commas")
	markdown := flags.Bool("markdown", false, "write the tables into -doc instead of printing one")
	doc := flags.String("doc", "docs/security.md", "the document of -markdown")
	rates := flags.Int("rates", 0, "print how many of `N` misuses HAKMEM_GUARD finds at some rates")
	count := flags.Int("count-caught", 0, "do each misuse of -rates this many times in this process")
	texts := flags.Bool("messages", false, "print a message for each kind of misuse and each function, with addresses replaced; HAKMEM_HARDEN and HAKMEM_GUARD select the kinds")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: misuse [flags]          all cases, each in a process of its own\n       misuse CASE SIZE        one case in this process\n\nflags:")
		flags.PrintDefaults()
		fmt.Fprintln(flags.Output(), "\nlevels:", levelNames(), "\nsizes: ", sizeNames, "\ncases:")
		for _, c := range cases {
			fmt.Fprintf(flags.Output(), "  %-28s %s %s\n", c.name, c.op, c.title)
		}
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *texts {
		return printMessages(os.Stdout)
	}
	if *count > 0 {
		return json.NewEncoder(os.Stdout).Encode(countCaught(*count))
	}
	if *rates > 0 {
		return printRates(os.Stdout, *rates)
	}
	switch flags.NArg() {
	case 0:
	case 2:
		return one(flags.Arg(0), flags.Arg(1))
	default:
		return fmt.Errorf("%d arguments: give CASE and SIZE, or none (-help lists them)", flags.NArg())
	}
	match, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	use := levels
	if *names != "" {
		use = nil
		for _, n := range strings.Split(*names, ",") {
			i := slices.IndexFunc(levels, func(l level) bool { return l.name == n })
			if i < 0 {
				return fmt.Errorf("level %q is none of %v", n, levelNames())
			}
			use = append(use, levels[i])
		}
	}
	if *markdown && (*only != "" || *names != "") {
		return fmt.Errorf("-markdown writes all cases and levels: leave -run and -levels away")
	}
	use = slices.DeleteFunc(slices.Clone(use), func(l level) bool {
		why := l.missing()
		if why != "" {
			fmt.Fprintf(os.Stderr, "misuse: level %s is left out: %s\n", l.name, why)
		}
		return why != ""
	})
	if *markdown && len(use) < len(levels) {
		return fmt.Errorf("-markdown needs every level")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	r, err := newRunner("", nil)
	if err != nil {
		return err
	}
	defer r.close()
	got, err := r.all(ctx, use, func(_ level, c *misuseCase, size string) bool { return match.MatchString(c.name) })
	if err != nil {
		return err
	}
	if *markdown {
		return writeDocument(*doc, tableOf(got))
	}
	print(got)
	for _, o := range got {
		if slices.Contains([]string{corrupt, died, timeout}, o.Outcome) {
			return fmt.Errorf("%s %s at level %s: %s", o.Case, o.Size, o.Level, o.Outcome)
		}
	}
	return nil
}

// one runs a single case, in this process.
func one(name, size string) error {
	c := caseNamed(name)
	if c == nil {
		return fmt.Errorf("case %q: -help lists those that there are", name)
	}
	if !slices.Contains(c.sizes, size) {
		return fmt.Errorf("case %s has no size %q, but %v", name, size, c.sizes)
	}
	line, err := json.Marshal(try(c, size))
	if err != nil {
		return err
	}
	_, err = fmt.Printf("%s%s\n", linePrefix, line)
	return err
}

// linePrefix marks the line with the outcome among whatever else a process prints.
const linePrefix = "misuse: "

// print prints a line for each outcome, with the reason where the misuse was not caught.
func print(got []outcome) {
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "case\tsize\tlevel\toutcome\tmessage or reason")
	count := map[string]int{}
	for _, o := range got {
		more := o.Message
		if o.Outcome == notCaught || o.text() == byChance {
			more = caseNamed(o.Case).why.of(o.Level)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", o.Case, o.Size, o.Level, o.text(), more)
		if count[o.Outcome]++; o.text() == byChance {
			count[o.Outcome]--
			count[byChance]++
		}
	}
	w.Flush()
	fmt.Println()
	for _, s := range []string{atCall, callLater, later, fault, notCaught, byChance, lawful, cannot, skipped, corrupt, died, timeout} {
		if count[s] > 0 {
			fmt.Printf("%5d %s\n", count[s], s)
		}
	}
}
