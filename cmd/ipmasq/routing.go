package main

import (
	"fmt"
	"io"

	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/urfave/cli/v2"
)

// routingDocument is a route or rule of policy routing, as ip(8) takes it, that
// comes or goes.
type routingDocument struct {
	Change string `json:"change"` // add or remove
	What   string `json:"what"`
}

func routingJSON(r engine.Routing) []routingDocument {
	out := []routingDocument{}
	for _, line := range r.Add.Lines() {
		out = append(out, routingDocument{"add", line})
	}
	for _, line := range r.Remove.Lines() {
		out = append(out, routingDocument{"remove", line})
	}
	return out
}

func (p *program) printRouting(c *cli.Context, w io.Writer, r engine.Routing) {
	for _, line := range r.Add.Lines() {
		fmt.Fprintln(w, p.colour(c, "32", "+ "+line))
	}
	for _, line := range r.Remove.Lines() {
		fmt.Fprintln(w, p.colour(c, "31", "- "+line))
	}
}

// dockerDocument is a rule in a chain that Docker leaves to users, that comes or
// goes.
type dockerDocument struct {
	Change string `json:"change"` // add or remove
	What   string `json:"what"`
}

func dockerJSON(d engine.Docker) []dockerDocument {
	out := []dockerDocument{}
	for _, line := range d.Added() {
		out = append(out, dockerDocument{"add", line})
	}
	for _, line := range d.Removed() {
		out = append(out, dockerDocument{"remove", line})
	}
	return out
}

func (p *program) printDocker(c *cli.Context, w io.Writer, d engine.Docker) {
	for _, line := range d.Added() {
		fmt.Fprintln(w, p.colour(c, "32", "+ "+line))
	}
	for _, line := range d.Removed() {
		fmt.Fprintln(w, p.colour(c, "31", "- "+line))
	}
}

func messageOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
