package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/flows"
)

const (
	cutsShown    = 10 // flows that plan and apply print
	reasonsShown = 20 // and how many reasons for them
)

// printCut says which flows are cut, or would be: why, then the first of them.
func printCut(w io.Writer, cut engine.Cut, verb string) {
	if cut.Total == 0 {
		return
	}
	var reasons []string
	for i, by := range cut.By {
		if i == reasonsShown {
			reasons = append(reasons, fmt.Sprintf("the rest for %s", counted(len(cut.By)-i, "other reason", "other reasons")))
			break
		}
		reasons = append(reasons, by.String())
	}
	fmt.Fprintf(w, "%s %s: %s\n", verb, counted(cut.Total, "flow", "flows"), strings.Join(reasons, "; "))
	for i := range min(cutsShown, len(cut.Flows)) {
		fmt.Fprintf(w, "  %s\n", cut.Flows[i])
	}
	if cut.Total > cutsShown {
		fmt.Fprintf(w, "  ... and %d more\n", cut.Total-cutsShown)
	}
}

// warnCut says what came in the way of cutting. The rules are in force.
func (p *program) warnCut(cut engine.Cut) {
	switch {
	case cut.Problem == nil:
	case cut.Retries:
		p.warnf("the policy is in force, but not all is done about the flows that it contradicts: %v", cut.Problem)
		p.hintf("apply again to cut them; ipmasq connections list shows what is there, and ipmasq connections kill cuts it")
	default:
		p.warnf("the policy is in force, but some flows may go on as they were translated before: %v", cut.Problem)
		p.hintf("ipmasq connections list shows what is there, and ipmasq connections kill cuts it")
	}
}

// cutDocument is which flows are cut, or would be.
type cutDocument struct {
	Total int                 `json:"flows_cut"`
	By    []cutReasonDocument `json:"flows_cut_by"`
	Flows []cutFlowDocument   `json:"flows_cut_first"`
}

type cutReasonDocument struct {
	Entry  string `json:"entry"`
	Reason string `json:"reason"`
	Flows  int    `json:"flows"`
}

type cutFlowDocument struct {
	Flow   json.RawMessage `json:"flow"` // as connections list has it
	Entry  string          `json:"entry"`
	Reason string          `json:"reason"`
}

func cutJSON(cut engine.Cut) cutDocument {
	out := cutDocument{cut.Total, []cutReasonDocument{}, []cutFlowDocument{}}
	for _, by := range cut.By {
		out.By = append(out.By, cutReasonDocument{by.Entry, by.Why, by.Flows})
	}
	e := flowEncoder{now: time.Now()}
	for i := range cut.Flows {
		f := &cut.Flows[i]
		out.Flows = append(out.Flows, cutFlowDocument{e.append(nil, &f.Flow, &flows.Judgement{}), f.By.Entry, f.By.Why})
	}
	return out
}
