package ctl

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/simulate"
	"github.com/effiscale/effiscale/node/api"
)

// candidate is one policy of the grid: its label, and its change of the options.
type candidate struct {
	label string
	set   func(*simulate.Options)
}

// tuneGrid are the policies that are compared: classes and percentiles.
func tuneGrid() []candidate {
	class := func(c knowledge.Class) candidate {
		return candidate{"effiscale.class=" + c.String(), func(o *simulate.Options) { o.Policy.Class = c }}
	}
	percentile := func(share float64) candidate {
		return candidate{
			fmt.Sprintf("effiscale.cpu.percentile=%.0f%%", share*100),
			func(o *simulate.Options) { o.Policy.CPUPercentile = share },
		}
	}
	return []candidate{
		class(knowledge.ClassLatency), class(knowledge.ClassServing), class(knowledge.ClassBatch),
		percentile(0.5), percentile(0.9), percentile(0.95), percentile(0.99), percentile(1),
	}
}

// tuneLeast is the record that a recommendation needs: a day has a peak hour.
const tuneLeast = 24 * time.Hour

// tuneView is the JSON of `effiscale tune`.
type tuneView struct {
	Schema      int          `json:"schema"`
	Service     string       `json:"service"`
	Steps       int          `json:"steps"`
	StepSeconds float64      `json:"step_seconds"`
	Unserved    float64      `json:"unserved_allowed"`
	Policies    []tunePolicy `json:"policies"` // cheapest first
	// Recommended is the label of the cheapest policy with at most Unserved; empty:
	// there is none.
	Recommended string   `json:"recommended"`
	Host        string   `json:"host,omitempty"`      // the host of the record
	Elsewhere   []string `json:"elsewhere,omitempty"` // other hosts on which the service runs
	InForce     string   `json:"in_force"`            // the label of the policy in force; "": not known
	NoDemand    bool     `json:"no_demand,omitempty"` // no demand at all: its shares mean nothing
}

type tunePolicy struct {
	Label string `json:"label"`
	simulate.Score
	// Frontier: no other policy is better in one and as good in the other.
	Frontier bool `json:"frontier"`
	InForce  bool `json:"in_force"`
}

func tuneCmd(a *app) *cobra.Command {
	var since, unserved string
	cmd := &cobra.Command{
		Use:   "tune NAME [--since 7d] [--unserved 0.5%]",
		Short: "Replay a service's recorded demand with other policies, and recommend one",
		Long: "Replay the recorded CPU demand of a service, all its containers together, with a grid of policies, through\n" +
			"the code that decides in the daemon. Show what each policy would have wasted and left unserved before the\n" +
			"reflex acts. * marks policies that no other one beats; \"in force\" is the current policy. The\n" +
			"recommendation is the cheapest policy that leaves at most --unserved. Nothing is changed: set the label\n" +
			"to choose a policy.\n" + recordHelp,
		Example:           "  effiscale tune web\n  effiscale tune web --since 24h --unserved 0.1%",
		Args:              oneArg("NAME"),
		ValidArgsFunction: completeNames(a, true),
	}
	cmd.RunE = a.runNamed(func(ctx context.Context, name string) error {
		allowed, err := parsePercent(unserved)
		if err != nil {
			return usagef("--unserved %q: %w", shorten(unserved), err)
		}
		t, err := recorded(ctx, a, name, "cpu", since)
		if err != nil {
			return err
		}
		v, err := tune(t, allowed)
		if err != nil {
			return err
		}
		return emit(a, v, tuneText)
	})
	cmd.Flags().StringVar(&since, "since", "7d", "how far back: 15s to 31d")
	cmd.Flags().StringVar(&unserved, "unserved", "0.5%", "share of demand that may stay unserved")
	return cmd
}

// parsePercent reads "0.5%" or "0.005".
func parsePercent(s string) (float64, error) {
	number, percent := strings.CutSuffix(strings.TrimSpace(s), "%")
	v, err := strconv.ParseFloat(number, 64)
	if percent {
		v /= 100
	}
	if err != nil || !(v >= 0.0001 && v <= 0.2) {
		return 0, fmt.Errorf("allowed are shares from 0.01%% to 20%%")
	}
	return v, nil
}

// tune replays a trace with every policy of the grid.
func tune(t api.Trace, allowed float64) (tuneView, error) {
	if len(t.Values) == 0 || !(t.Step > 0) {
		return tuneView{}, fmt.Errorf("no recorded demand of %s", t.Service)
	}
	v := tuneView{
		Schema: api.Schema, Service: t.Service, Host: t.Host, Elsewhere: t.Elsewhere, InForce: t.Policy,
		NoDemand: slices.Max(t.Values) <= 0, Steps: len(t.Values), StepSeconds: t.Step, Unserved: allowed,
	}
	step := time.Duration(t.Step * float64(time.Second))
	trace := simulate.Trace{Name: t.Service, Unit: simulate.UnitCores, Step: step, Values: t.Values}
	for _, c := range tuneGrid() {
		o := simulate.Defaults()
		o.Latency = false
		// The first limit covers the highest demand.
		o.ReplicaCores = max(slices.Max(t.Values), o.ReplicaCores)
		c.set(&o)
		results, err := simulate.Replay(&trace, []string{simulate.EffiScale}, o)
		if err != nil {
			return v, fmt.Errorf("cannot replay the demand of %s: %w", t.Service, err)
		}
		v.Policies = append(v.Policies, tunePolicy{Label: c.label, Score: results[0].Score, InForce: c.label == t.Policy})
	}
	slices.SortStableFunc(v.Policies, func(a, b tunePolicy) int {
		return cmp.Or(cmp.Compare(a.Slack, b.Slack), cmp.Compare(a.Unserved, b.Unserved))
	})
	for i := range v.Policies {
		p := &v.Policies[i]
		p.Frontier = !v.NoDemand && !slices.ContainsFunc(v.Policies, func(q tunePolicy) bool {
			return q.Slack < p.Slack && q.Unserved <= p.Unserved || q.Slack <= p.Slack && q.Unserved < p.Unserved
		})
		if v.Recommended == "" && p.Unserved <= allowed && !v.NoDemand {
			v.Recommended = p.Label
		}
	}
	return v, nil
}

func tuneText(p *page, v tuneView) {
	length := time.Duration(float64(v.Steps) * v.StepSeconds * float64(time.Second))
	p.line("%s", p.style(styleBold, fmt.Sprintf("%s: CPU demand of %s in %d steps of %s%s",
		v.Service, spanText(length), v.Steps, secondsText(v.StepSeconds), onHost(v.Host))))
	out := newScoreTable("POLICY", "", "SLACK %", "UNSERVED %", "SHORT %", "CORE-H", "CHANGES A DAY")
	delete(out.right, 1)
	for _, c := range v.Policies {
		mark := ""
		if c.Frontier {
			mark = "*"
		}
		if c.InForce {
			mark = strings.TrimSpace(mark + " in force")
		}
		out.add(c.Label, mark, ofDemand(v.NoDemand, c.Slack), ofDemand(v.NoDemand, c.Unserved), share(c.Under),
			figure(c.Reserved/3600), figure(c.ChangesPerDay))
	}
	out.print(p)
	p.line("")
	if len(v.Elsewhere) > 0 {
		p.warning(elsewhereText(api.Trace{Service: v.Service, Elsewhere: v.Elsewhere}))
	}
	if v.InForce != "" && !slices.ContainsFunc(v.Policies, func(c tunePolicy) bool { return c.InForce }) {
		p.line("In force: %s, which is not in the table.", v.InForce)
	}
	if v.NoDemand {
		p.line("No demand in that time: there is nothing to compare.")
		return
	}
	if v.Recommended == "" {
		p.line("No policy leaves %s %% of demand or less unserved: the demand jumps above its past.", share(v.Unserved))
		return
	}
	if length < tuneLeast {
		p.line("Only %s are recorded: run this again after a day, or better a week.", spanText(length))
	}
	p.line("Recommended: the label %s, the cheapest that leaves %s %% of demand or less unserved.",
		v.Recommended, share(v.Unserved))
}
