package main

import (
	"github.com/ipmasq/ipmasq/pkg/metrics"
	"github.com/urfave/cli/v2"
)

// prometheusFormat is an output of status alone.
const prometheusFormat = "prometheus"

func statusOutputFlag() cli.Flag {
	return &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "table", Usage: "print `FORMAT`: table, json, yaml or prometheus"}
}

func checkStatusOutput(c *cli.Context) error {
	switch format := c.String("output"); format {
	case "table", "json", "yaml", prometheusFormat:
		return nil
	default:
		return usagef("no such output format: %s; there are table, json, yaml and prometheus", format)
	}
}

// metricsBuild is what metrics say of the program.
func metricsBuild() metrics.Build {
	b := build()
	return metrics.Build{Version: b.Version, Revision: b.Commit, GoVersion: b.Go}
}
