package ctl

import (
	"fmt"
	"math"

	"github.com/effiscale/effiscale/mape/simulate"
)

// The axes of the frontiers: the share of demand left unserved from 0.01 % to 10 %,
// and slack between 1 % and 5000 %, both logarithmic.
const (
	leastShort, mostShort = 1e-4, 0.1
	leastSlack, mostSlack = 0.01, 50.0
)

// curves draws slack against shortage, one line per policy: lower and further
// left is better.
func (p *picture) curves(y float64) {
	p.text(pt{plotLeft, y - 34}, "head ink", "Frontier: slack at equal shortage")
	p.text(pt{plotLeft, y - 14}, "faint",
		"each policy's allocation times one factor from 0.5 to 8 · lower and further left is better")
	right := float64(plotWidth - plotRight - 190)
	foot, top := p.slackRange()
	placeX := func(short float64) float64 {
		return plotLeft + logPlace(short, leastShort, mostShort)*(right-plotLeft)
	}
	placeY := func(slack float64) float64 { return y + curveHeight*(1-logPlace(slack, foot, top)) }
	for _, v := range [...]float64{0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50} {
		if v >= foot && v <= top {
			p.line(pt{plotLeft, placeY(v)}, pt{right, placeY(v)}, "grid")
			p.text(pt{plotLeft - 8, placeY(v) + 4}, "small faint end", share(v)+" %")
		}
	}
	for _, v := range [...]float64{0.0001, 0.001, 0.01, 0.1} {
		p.line(pt{placeX(v), y}, pt{placeX(v), y + curveHeight}, "grid")
		p.text(pt{placeX(v), y + curveHeight + 18}, "small faint mid", share(v)+" % unserved")
	}
	p.text(pt{right + 42, y - 14}, "small faint", "slack at 0.1 % · at 1 %")
	for i := len(p.r.results) - 1; i >= 0; i-- { // the first policy on top
		r := &p.r.results[i]
		class := lineClass(r.Policy)
		var curve []pt
		for _, q := range r.Frontier.Curve(curvePoints) {
			if q.Shortage >= leastShort && q.Shortage <= mostShort && q.Slack >= foot {
				curve = append(curve, pt{placeX(q.Shortage), placeY(q.Slack)})
			}
		}
		at := y + 10 + float64(i)*33
		p.open(r.Policy + ": slack " + slacksText(r))
		p.path(class, curve)
		p.line(pt{right + 14, at - 4}, pt{right + 36, at - 4}, class)
		p.text(pt{right + 42, at}, fmt.Sprintf("name%d", hueOf(r.Policy)), r.Policy)
		p.text(pt{right + 42, at + 14}, "small faint", slacksText(r))
		p.close()
	}
}

// slacksText is a policy's slack at each of the shortages.
func slacksText(r *simulate.Result) string {
	text := ""
	for i, s := range simulate.Shortages() {
		if i > 0 {
			text += " · "
		}
		if f := r.Frontier.Solve(s); f.Reached {
			text += fmt.Sprintf("%s %%", share(f.Slack))
		} else {
			text += "-"
		}
	}
	return text
}

// slackRange is the range of the slack axis: all curves, rounded to marks.
func (p *picture) slackRange() (foot, top float64) {
	foot, top = mostSlack, leastSlack
	for i := range p.r.results {
		for _, q := range p.r.results[i].Frontier.Curve(curvePoints) {
			if q.Shortage >= leastShort && q.Shortage <= mostShort {
				foot, top = min(foot, q.Slack), max(top, q.Slack)
			}
		}
	}
	top = min(niceUp(top), mostSlack)
	return min(max(1/niceUp(1/max(foot, leastSlack)), leastSlack), top/10), top
}

// logPlace is how far v lies from a to b on a logarithmic scale, 0..1.
func logPlace(v, a, b float64) float64 {
	return min(max(math.Log(v/a)/math.Log(b/a), 0), 1)
}
