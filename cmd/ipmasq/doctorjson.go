package main

import "github.com/ipmasq/ipmasq/pkg/doctor"

type doctorDocument struct {
	FormatVersion int               `json:"format_version"`
	Wrong         bool              `json:"wrong"`
	Files         []string          `json:"files"`
	Applied       bool              `json:"applied"`
	Backend       string            `json:"backend,omitempty"` // that holds the rules
	Findings      []findingDocument `json:"findings"`
	Looked        []string          `json:"looked_at"`
	Unread        []unreadDocument  `json:"unread"`
}

type findingDocument struct {
	ID       string   `json:"id"`
	Severity string   `json:"severity"`
	Title    string   `json:"title"`
	Evidence []string `json:"evidence"`
	Mend     []string `json:"mend"`
}

type unreadDocument struct {
	What       string `json:"what"`
	Why        string `json:"why"`
	Capability string `json:"capability,omitempty"`
}

func doctorJSON(h *doctor.Host, findings []doctor.Finding) doctorDocument {
	d := doctorDocument{
		FormatVersion: formatVersion, Wrong: doctor.Wrong(findings), Files: append([]string{}, h.Files...),
		Applied: h.Policy != nil && !h.Given, Findings: []findingDocument{}, Looked: append([]string{}, h.Looked...), Unread: []unreadDocument{},
	}
	if h.Status != nil && h.Status.InForce {
		d.Backend = h.Status.Backend
	}
	for _, f := range findings {
		d.Findings = append(d.Findings, findingDocument{f.ID, f.Severity.String(), f.Title, append([]string{}, f.Evidence...), append([]string{}, f.Mend...)})
	}
	for _, u := range h.Unread {
		d.Unread = append(d.Unread, unreadDocument{u.What, u.Why, u.Capability})
	}
	return d
}
