package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

type versionDocument struct {
	FormatVersion int    `json:"format_version"`
	Version       string `json:"version"`
	Commit        string `json:"commit,omitempty"`
	Built         string `json:"built,omitempty"`
	Go            string `json:"go"`
	Platform      string `json:"platform"`
	PolicyVersion int    `json:"policy_version"`
}

func (p *program) versionCommand() *cli.Command {
	return &cli.Command{
		Name:        "version",
		Usage:       "print the version and how it was built",
		Description: "Prints the version of ipmasq and of the policy language, and what it was built from.",
		Flags:       []cli.Flag{outputFlag()},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			d := build()
			return p.output(c, func() any { return d }, func(w io.Writer) {
				fmt.Fprintf(w, "ipmasq %s\npolicy language version %d\n", d.Version, d.PolicyVersion)
				if d.Commit != "" {
					fmt.Fprintf(w, "commit %s\n", d.Commit)
				}
				fmt.Fprintf(w, "built with %s for %s\n", d.Go, d.Platform)
			})
		},
	}
}

// build reads what the Go toolchain noted in the program.
func build() versionDocument {
	d := versionDocument{
		FormatVersion: formatVersion, Version: "unknown", Go: runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH, PolicyVersion: 1,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return d
	}
	d.Version = info.Main.Version
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			d.Commit = s.Value
		case "vcs.time":
			d.Built = s.Value
		}
	}
	return d
}
