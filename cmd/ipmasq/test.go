package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/policytest"
	"github.com/ipmasq/ipmasq/pkg/stage"
	"github.com/urfave/cli/v2"
)

func (p *program) testCommand() *cli.Command {
	return &cli.Command{
		Name:      "test",
		Usage:     "run a policy's own tests: packets, and what is to become of them",
		ArgsUsage: "[FILE...]",
		Description: "Reads test files (NAME.test.yaml), sends their packets through the policy (NAME.yaml) by simulation, and says what is not as " +
			"expected, with the way that the packet took, and which entries no test has come by. A FILE is a test file, a policy that has one " +
			"beside it, or a folder of test files. The gateway is made up from the policy where the test file does not describe it. " +
			"It asks this host nothing, and needs no privilege.\n\n" +
			"  ipmasq test --kernel policies/",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "kernel", Usage: "send real packets through the real kernel as well, in namespaces that are thrown away; no privilege is needed"},
			&cli.BoolFlag{Name: "coverage", Usage: "list all entries, with how many packets met each"},
			&cli.IntFlag{Name: "min-coverage", Usage: "fail unless `PERCENT` of the entries of each policy are met"},
			&cli.BoolFlag{Name: "print-host", Usage: "print the gateways that the tests are about, with what is made up, and run nothing"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "table", Usage: "print `FORMAT`: table, json, yaml or junit"},
			noColorFlag(),
		},
		Action: p.test,
	}
}

// errTestFailed ends a run in which something was not as expected. What, has
// been printed.
var errTestFailed = errors.New("a test failed")

func (p *program) test(c *cli.Context) error {
	if err := checkOutput(c); c.String("output") != "junit" && err != nil {
		return usagef("no such output format: %s; there are table, json, yaml and junit", c.String("output"))
	}
	if least := c.Int("min-coverage"); least < 0 || least > 100 {
		return usagef("--min-coverage takes a number from 0 to 100, found %d", least)
	}
	if c.Bool("kernel") && !c.Bool("print-host") {
		if err := stage.Enter(); err != nil {
			return fmt.Errorf("--kernel cannot run here: %w", err)
		}
	}
	gateways, err := p.testGateways(c)
	if err != nil {
		return err
	}
	if c.Bool("print-host") {
		for _, g := range gateways {
			fmt.Fprintf(p.stdout, "# %s\n%s", g.File.Name, policytest.HostText(g.Host))
		}
		return nil
	}
	run := &testRun{kernel: c.Bool("kernel"), least: c.Int("min-coverage")}
	progress := &progress{program: p}
	if isTerminal(p.stderr) {
		progress.start()
	}
	defer progress.stop()
	for _, g := range gateways {
		start := time.Now()
		results, err := p.runTests(c, g)
		if err != nil {
			return err
		}
		progress.step(g.File.Name, time.Since(start))
		run.add(policytest.Tested{Gateway: g, Results: results}, time.Since(start))
	}
	progress.stop()
	run.coverage = policytest.Cover(run.files)
	p.warnDisputed(run)
	if err := p.printTests(c, run); err != nil {
		return err
	}
	if run.failed > 0 || run.below() {
		return errTestFailed
	}
	return nil
}

// testGateways reads all test files and their policies, and shows the mistakes
// of all of them.
func (p *program) testGateways(c *cli.Context) ([]*policytest.Gateway, error) {
	files, err := p.testFiles(c)
	if err != nil {
		return nil, err
	}
	var out []*policytest.Gateway
	var all invalid
	for _, f := range files {
		g, err := f.gateway()
		var bad *policytest.Invalid
		switch {
		case errors.As(err, &bad):
			for _, e := range bad.Errors {
				if !slices.ContainsFunc(all.Errors, func(o *policy.Error) bool { return o.Place == e.Place && o.Message == e.Message }) {
					all.Errors = append(all.Errors, e)
				}
			}
			all.sources = append(all.sources, bad.Sources...)
		case err != nil:
			return nil, err
		default:
			out = append(out, g)
		}
	}
	if len(all.Errors) > 0 {
		policy.Print(p.stderr, all.Errors, all.sources)
		return nil, wrongTests{len(all.Errors)}
	}
	return out, nil
}

// wrongTests is mistakes in test files or their policies, which have been shown.
type wrongTests struct{ mistakes int }

func (w wrongTests) Error() string {
	return "the tests are invalid: " + counted(w.mistakes, "mistake", "mistakes")
}

// testFile is a file to read: standard input where there is a text.
type testFile struct {
	name string
	text []byte
}

func (f testFile) gateway() (*policytest.Gateway, error) {
	var file *policytest.File
	var err error
	if f.text != nil {
		file, err = policytest.Parse(f.name, f.text)
	} else {
		file, err = policytest.Load(f.name)
	}
	if err != nil {
		return nil, err
	}
	return file.Gateway()
}

func (p *program) testFiles(c *cli.Context) ([]testFile, error) {
	paths := c.Args().Slice()
	if len(paths) == 0 {
		for _, pattern := range []string{filepath.Join(filepath.Dir(defaultFile), "*"+policytest.Suffix), filepath.Join(defaultFolder, "*"+policytest.Suffix)} {
			found, _ := filepath.Glob(pattern)
			paths = append(paths, found...)
		}
		if len(paths) == 0 {
			return nil, usagef("no test file is given, and there is none in %s and %s; ipmasq test . runs those of this folder", filepath.Dir(defaultFile), defaultFolder)
		}
	}
	var out []testFile
	for _, path := range paths {
		if path == "-" {
			text, err := io.ReadAll(p.stdin)
			if err != nil {
				return nil, fmt.Errorf("read tests: %w", err)
			}
			out = append(out, testFile{policy.StdinName, append([]byte{}, text...)})
			continue
		}
		found, err := policytest.Find([]string{path})
		if err != nil {
			return nil, err
		}
		for _, name := range found {
			if !slices.ContainsFunc(out, func(f testFile) bool { return f.name == name }) {
				out = append(out, testFile{name: name})
			}
		}
	}
	return out, nil
}
