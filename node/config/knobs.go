package config

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	wordHost     = "host"     // as an upper bound: what the host has
	wordAdaptive = "adaptive" // as a target: follow the learned thresholds

	leastCPU    = knowledge.OneCPU / 100 // the kernel's 1 ms of quota in 100 ms
	leastMemory = 6 * knowledge.MiB      // Docker refuses less
)

// knobs are the keys of [policy]. The same keys stand in [class.NAME] and
// [service."NAME"], and each has a label.
func knobs(p *knowledge.Policy) []binding {
	all := append(boundKnobs(p), learningKnobs(p)...)
	for i := range all {
		all[i].section = "policy"
	}
	return all
}

func boundKnobs(p *knowledge.Policy) []binding {
	return []binding{
		{name: "cpu", label: "cpu.mode", help: "what follows demand: quota, a hard CPU limit; weight, the share of the host without a limit",
			field: enumField(&p.CPUMode, knowledge.ParseCPUMode, knowledge.CPUQuota, knowledge.CPUWeight)},
		{name: "cpu_min", label: "cpu", help: "the CPU limit never goes below; the label is min..max",
			field: coresField{p: &p.CPU.Min, least: leastCPU, most: knowledge.MaxCPU}},
		{name: "cpu_max", label: "cpu", help: "the CPU limit never goes above; host: its cores less the reserve",
			field: coresField{&p.CPU.Max, leastCPU, knowledge.MaxCPU, wordHost}},
		{name: "memory_min", label: "memory", help: "the memory limit never goes below; the label is min..max",
			field: sizeField{p: &p.Memory.Min, least: leastMemory, most: knowledge.MaxBytes}},
		{name: "memory_max", label: "memory", help: "the memory limit never goes above; host: its memory less the reserve",
			field: sizeField{&p.Memory.Max, leastMemory, knowledge.MaxBytes, wordHost}},
		{name: "cpu_target", label: "cpu.target", help: "CPU use over limit to aim for; adaptive: where use was learned to hurt the service, once there is evidence",
			field: shareField{&p.CPUTarget, 0.1, 0.95, wordAdaptive}},
		{name: "memory_target", label: "memory.target", help: "memory use over limit to aim for",
			field: shareField{&p.MemoryTarget, 0.1, 0.95, wordAdaptive}},
		{name: "weight", label: "weight", help: "who gets more when the host is full",
			field: countField{&p.Weight, 1, 100}},
	}
}

func learningKnobs(p *knowledge.Policy) []binding {
	const day = 24 * time.Hour
	return []binding{
		{name: "throttle_target", label: "throttle-target", help: "share of CPU periods that may be throttled; less is faster and dearer",
			field: shareField{p: &p.ThrottleTarget, least: 0.001, most: 0.5}},
		{name: "cpu_percentile", label: "cpu.percentile", help: "the learned CPU floor covers this share of its past use; adaptive: what the cheapest of many small models recommends",
			field: shareField{&p.CPUPercentile, 0.1, 1, wordAdaptive}},
		{name: "memory_percentile", label: "memory.percentile", help: "the learned memory need covers this share of its past peaks; 100% is the highest",
			field: shareField{p: &p.MemoryPercentile, least: 0.5, most: 1}},
		{name: "memory_shrink", label: "memory.shrink", help: "whether memory is ever taken back",
			field: boolField{&p.MemoryShrink}},
		{name: "start_boost", label: "start-boost", help: "the CPU floor of a starting container is this many times as high; 1: no boost",
			field: factorField{&p.StartBoost, 1, 20}},
		{name: "start_boost_for", label: "start-boost-for", help: "the boost ends after this time, or when the container is healthy or settled",
			field: spanField{&p.StartBoostFor, time.Second, time.Hour}},
		{name: "shrinks_per_day", label: "shrinks-per-day", help: "how often memory or the CPU floor is cut in a day",
			field: countField{&p.ShrinksPerDay, 0, 10000}},
		{name: "observe_first", label: "observe-first", help: "a container without a limit, or others of its image, are watched for this time before it gets one",
			field: spanField{&p.ObserveFirst, time.Second, day}},
		{name: "shrink_after", label: "shrink-after", help: "memory must have been calm for this time before it shrinks",
			field: spanField{&p.ShrinkAfter, 10 * time.Second, 7 * day}},
		{name: "oom_protect", label: "oom-protect", help: "nothing shrinks for this time after an OOM kill",
			field: spanField{&p.OOMProtect, 10 * time.Second, 7 * day}},
		{name: "yield_for", label: "yield-for", help: "a change by a person or by Compose is left alone for this time",
			field: spanField{&p.YieldFor, 0, 7 * day}},
	}
}

// serviceKnobs are the keys of [service."NAME"]: the policy's, and two more.
func serviceKnobs(p *knowledge.Policy) []binding {
	return append([]binding{
		{section: "service", name: "class", label: "class", help: "the preset that a service starts from",
			field: enumField(&p.Class, knowledge.ParseClass, knowledge.Classes()...)},
		{section: "service", name: "mode", label: "mode", help: "how far it may go with a service, instead of node.mode",
			field: enumField(&p.Mode, knowledge.ParseMode, knowledge.ModeOff, knowledge.ModeObserve, knowledge.ModeRecommend, knowledge.ModeAuto)},
	}, knobs(p)...)
}
