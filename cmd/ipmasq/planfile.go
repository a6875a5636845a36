package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/state"
	"github.com/urfave/cli/v2"
)

// planFileVersion is of the format of the file alone.
const planFileVersion = 1

// planFile is a plan on disk: what it was made from and what it came to. It
// holds no rules; they are compiled again, and have to come to the same.
type planFile struct {
	FormatVersion int            `json:"ipmasq_plan"`
	Version       string         `json:"version"` // of ipmasq
	Made          time.Time      `json:"made"`
	Summary       string         `json:"summary"`
	Outline       engine.Outline `json:"outline"`
	Policy        string         `json:"policy"` // digest of the sources
	Sources       []planSource   `json:"sources"`
}

// planSource is one file of the policy, as it was read. Text is base64 in JSON:
// a policy may hold any bytes in its comments.
type planSource struct {
	Name string `json:"name"`
	Text []byte `json:"text"`
}

func (f *planFile) digest() string {
	sources := make([]state.Source, len(f.Sources))
	for i, s := range f.Sources {
		sources[i] = state.Source{Name: s.Name, Text: s.Text}
	}
	return state.Digest(sources)
}

// savePlan writes a plan beside name and then over it: what is there is an old
// plan or a new one, and nobody else can read either.
func savePlan(name string, pl *engine.Plan) error {
	f := planFile{
		FormatVersion: planFileVersion, Version: build().Version, Made: time.Now().UTC().Truncate(time.Second),
		Summary: pl.Rules.Summary(), Outline: pl.Outline(), Sources: make([]planSource, len(pl.Policy.Sources)),
	}
	for i, s := range pl.Policy.Sources {
		f.Sources[i] = planSource{s.Name, s.Text}
	}
	f.Policy = f.digest()
	text, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("save the plan: %w", err)
	}
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("save the plan: %s is not a regular file", name)
	}
	file, err := os.CreateTemp(filepath.Dir(name), ".ipmasq-plan-*") // 0600
	if err != nil {
		return fmt.Errorf("save the plan: %w", err)
	}
	_, err = file.Write(append(text, '\n'))
	if err == nil {
		err = file.Sync()
	}
	if closing := file.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(file.Name(), name)
	}
	if err != nil {
		os.Remove(file.Name())
		return fmt.Errorf("save the plan: %w", err)
	}
	return nil
}

// loadPlan reads a plan, and believes one that is whole.
func loadPlan(name string) (*planFile, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, unreadable{fmt.Errorf("read the plan: %w", err)}
	}
	wrong := func(what string) error {
		return fmt.Errorf("read the plan: %s %s; make it again with ipmasq plan --out", name, what)
	}
	var header struct {
		FormatVersion *int `json:"ipmasq_plan"`
	}
	var f planFile
	d := json.NewDecoder(bytes.NewReader(text))
	switch err := json.Unmarshal(text, &header); {
	case err == nil && header.FormatVersion != nil && *header.FormatVersion != planFileVersion:
		return nil, wrong(fmt.Sprintf("is of format %d, and this ipmasq knows %d", *header.FormatVersion, planFileVersion))
	case err == nil && header.FormatVersion == nil:
		return nil, wrong("is none of ipmasq's")
	case err != nil || d.Decode(&f) != nil:
		return nil, wrong("is none of ipmasq's, or damaged")
	}
	if f.digest() != f.Policy {
		return nil, wrong("is damaged: its policy is not the one that it was made for")
	}
	return &f, nil
}

// policyOf gives the policy that is to be applied, and what a saved plan
// expects of it; nil where it comes from its files.
func (p *program) policyOf(c *cli.Context) (*policy.Policy, *planFile, error) {
	name := c.String("plan")
	if !c.IsSet("plan") {
		pol, err := p.load(c)
		return pol, nil, err
	}
	if c.NArg() > 0 {
		return nil, nil, usagef("--plan has the policy in it; leave out %s", c.Args().First())
	}
	if bad := p.untrustedFile(name); bad != nil && !c.Bool("allow-writable-policy") {
		return nil, nil, bad
	}
	f, err := loadPlan(name)
	if err != nil {
		return nil, nil, err
	}
	sources := make([]policy.Source, len(f.Sources))
	for i, s := range f.Sources {
		sources[i] = policy.Source{Name: s.Name, Text: s.Text}
	}
	pol, err := policy.Reparse(sources)
	return pol, f, wrong(err, pol)
}

// outline is what Apply has to come to, or nil.
func (f *planFile) outline() *engine.Outline {
	if f == nil {
		return nil
	}
	return &f.Outline
}

// outdated is a saved plan that would do something else now.
type outdated struct {
	error
	file *planFile
}

func (o outdated) Unwrap() error { return o.error }

// outdated gives an error of applying the plan what the file knows about itself.
func (f *planFile) outdated(err error) error {
	var changed *engine.ChangedError
	if f == nil || !errors.As(err, &changed) {
		return err
	}
	return outdated{err, f}
}

// explain prints it.
func (o outdated) explain(p *program) {
	if v := build().Version; v != o.file.Version {
		p.hintf("the plan was saved by ipmasq %s, and this is %s", o.file.Version, v)
	}
	p.hintf("the plan was saved at %s; ipmasq plan shows what apply would do now", o.file.Made.Format("2006-01-02 15:04:05 MST"))
}

// printFlows says where more or fewer flows were cut than the plan said. They
// come and go, and the plan is no other for that.
func (f *planFile) printFlows(p *program, cut int) {
	if f != nil && f.Outline.Flows != cut {
		p.hintf("the plan was for %s to be cut; it is %d", counted(f.Outline.Flows, "flow", "flows"), cut)
	}
}
