package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/effiscale/effiscale/knowledge"
)

const labelPrefix = "effiscale."

// label is one container label that has no key of its own in the file.
type label struct {
	name    string // without the prefix
	help    string
	allowed string
	example string
	set     func(p *knowledge.Policy, value string) error
}

const laterHelp = "checked and shown by explain; without effect in this version"

// plainLabels are the labels that are not simply a policy key.
func plainLabels() []label {
	return []label{
		{"enable", "manage this container; without it the container is observed and never changed",
			"true, false", "true", setEnable},
		{"service", "service of the container; containers of a service do the same work", nameWords, "shop-web", setService},
		{"cpu", "bounds of the CPU limit in cores", "min..max, each 0.01 to 4096", "0.25..2", setCPU},
		{"memory", "bounds of the memory limit", "min..max, each 6MiB to 1024TiB", "128MiB..1GiB", setMemory},
		{"priority", "another name of effiscale.weight", "1 to 100", "50", setWeight},
		{"allow", "accepted risks, separated by commas", strings.Join(dangers(), ", "), "gpu", setAllow},
		{"replicas", laterHelp, "min..max, each 0 to 1000", "1..5", setReplicas},
		{"replicas.target", laterHelp, "cpu=70%, rps=200, concurrency=50 or latency_p95=250ms", "cpu=70%", setTarget},
		{"port", laterHelp, "1 to 65535", "8080", setPort},
		{"listen", laterHelp, `":8088" or "http://app.local"`, ":8088", setListen},
		{"drain", laterHelp, "0s to 1h", "30s", setDrain},
		{"ready-after", laterHelp, "0s to 1h", "5s", setReadyAfter},
	}
}

// ownLabels are written by EffiScale itself; their values are opaque.
func ownLabels() []string { return []string{"clone-of", "slot", "epoch", "created-by", "demo"} }

func dangers() []string {
	return []string{"gpu", "runtime", "swarm", "shared-volumes", "privileged", "host-pid", "host-ipc", "mac-address",
		"static-address"}
}

const (
	// maxLabel bounds the value of a label; the longest that means anything has
	// about 128 bytes.
	maxLabel = 256
	// maxProblems bounds what one container can put into status.
	maxProblems = 16
)

// labels puts the effiscale.* labels over a policy.
func (c *Config) labels(p *knowledge.Policy, labels map[string]string) {
	var names []string
	for name := range labels {
		if len(name) >= len(labelPrefix) && strings.EqualFold(name[:len(labelPrefix)], labelPrefix) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return
	}
	slices.Sort(names)
	byName := labelSetters(p)
	for _, name := range names {
		if problem := setLabel(byName, name, labels[name]); problem != "" {
			p.Problems = append(p.Problems, problem)
		}
		if len(p.Problems) == maxProblems {
			break
		}
	}
	a, b := labels[labelPrefix+"weight"], labels[labelPrefix+"priority"]
	if a != "" && b != "" && a != b && len(p.Problems) < maxProblems {
		p.Problems = append(p.Problems, fmt.Sprintf(
			"labels effiscale.weight %s and effiscale.priority %s disagree: they are two names of one label", show(a), show(b)))
	}
	if _, ok := labels[labelPrefix+"cpu"]; ok {
		p.CPUSource = "label"
	}
	if _, ok := labels[labelPrefix+"memory"]; ok {
		p.MemorySource = "label"
	}
}

// setter reads one label into the policy that it was made for.
type setter struct {
	set     func(string) error
	allowed string
}

func labelSetters(p *knowledge.Policy) map[string]setter {
	all := map[string]setter{}
	for _, k := range serviceKnobs(p) {
		all[k.label] = setter{func(s string) error { return k.set(bare(s)) }, k.allowed()}
	}
	for _, l := range plainLabels() { // after the knobs: "cpu" is a range here
		all[l.name] = setter{func(s string) error { return l.set(p, s) }, l.allowed}
	}
	for _, name := range ownLabels() {
		all[name] = setter{func(string) error { return nil }, ""}
	}
	return all
}

// setLabel reads one label; its result is the problem, or "".
func setLabel(known map[string]setter, name, value string) string {
	s, ok := known[strings.TrimPrefix(name, labelPrefix)]
	if !ok || !strings.HasPrefix(name, labelPrefix) {
		return fmt.Sprintf("label %s is not known%s", showName(name), suggestLabel(known, name))
	}
	if len(value) > maxLabel {
		return fmt.Sprintf("label %s=%s is too long; allowed: %s", name, show(value), orText(s.allowed))
	}
	if err := s.set(value); err != nil {
		return fmt.Sprintf("label %s=%s %s%s", name, show(value), err, joinAllowed(err.Error(), s.allowed))
	}
	return ""
}

func orText(allowed string) string {
	if allowed == "" {
		return "256 bytes"
	}
	return allowed
}

func showName(name string) string {
	if knowledge.ValidName(name) {
		return name
	}
	return show(name)
}

func suggestLabel(known map[string]setter, name string) string {
	names := make([]string, 0, len(known))
	for n := range known {
		names = append(names, labelPrefix+n)
	}
	slices.Sort(names)
	return didYouMean(name, names)
}

func setEnable(p *knowledge.Policy, s string) error { return boolField{&p.Managed}.set(bare(s)) }

// setService only checks: the service's key was made from the label before.
func setService(_ *knowledge.Policy, s string) error { return checkName(s) }

func setWeight(p *knowledge.Policy, s string) error {
	return countField{&p.Weight, 1, 100}.set(bare(s))
}

func setAllow(p *knowledge.Policy, s string) error {
	var list []string
	for word := range strings.SplitSeq(s, ",") {
		word = strings.TrimSpace(word)
		if !slices.Contains(dangers(), word) {
			return fmt.Errorf("holds an unknown word%s", didYouMean(word, dangers()))
		}
		list = append(list, word)
	}
	p.Allow = list
	return nil
}

// cutRange splits "min..max".
func cutRange(s string) (least, most string, err error) {
	least, most, ok := strings.Cut(s, "..")
	if !ok || least == "" || most == "" {
		return "", "", errors.New("is not a range with two dots")
	}
	return least, most, nil
}

// setRange reads both ends with fields of their own, and changes nothing unless
// both are right.
func setRange[T ~int64](s string, r *knowledge.Range[T], end func(*T) field) error {
	least, most, err := cutRange(s)
	if err != nil {
		return err
	}
	var both knowledge.Range[T]
	if err := end(&both.Min).set(bare(least)); err != nil {
		return fmt.Errorf("has a minimum that %w", err)
	}
	if err := end(&both.Max).set(bare(most)); err != nil {
		return fmt.Errorf("has a maximum that %w", err)
	}
	if both.Min > both.Max {
		return errors.New("has its minimum above its maximum")
	}
	*r = both
	return nil
}

func setCPU(p *knowledge.Policy, s string) error {
	return setRange(s, &p.CPU, func(v *knowledge.NanoCPU) field {
		return coresField{p: v, least: leastCPU, most: knowledge.MaxCPU}
	})
}

func setMemory(p *knowledge.Policy, s string) error {
	return setRange(s, &p.Memory, func(v *knowledge.Bytes) field {
		return sizeField{p: v, least: leastMemory, most: knowledge.MaxBytes}
	})
}
