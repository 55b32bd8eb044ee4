package ctl

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/simulate"
)

// maxPolicy bounds a policy file.
const maxPolicy = 64 << 10

// simulateSetters put one value into the options.
func simulateSetters() map[string]func(o *simulate.Options, value string) error {
	number := func(p *float64, s string, most float64) error {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil || !(v >= 0 && v <= most) {
			return fmt.Errorf("allowed are numbers from 0 to %.0f", most)
		}
		*p = v
		return nil
	}
	count := func(p *int, s string) (err error) {
		if *p, err = strconv.Atoi(s); err != nil {
			return errors.New("allowed are whole numbers")
		}
		return nil
	}
	return map[string]func(o *simulate.Options, s string) error{
		"target": func(o *simulate.Options, s string) (err error) {
			o.Target, err = parseShare(s)
			return err
		},
		"replica_cores": func(o *simulate.Options, s string) error { return number(&o.ReplicaCores, s, maxCores) },
		"start_delay": func(o *simulate.Options, s string) (err error) {
			if o.StartDelay, err = time.ParseDuration(s); err != nil {
				return errors.New("allowed are durations such as 10s")
			}
			return nil
		},
		"min":        func(o *simulate.Options, s string) error { return count(&o.Min, s) },
		"max":        func(o *simulate.Options, s string) error { return count(&o.Max, s) },
		"host_cores": func(o *simulate.Options, s string) error { return number(&o.HostCores, s, maxCores) },
		"host_memory": func(o *simulate.Options, s string) error {
			v, err := parseSize(s)
			if err != nil {
				return errors.New("allowed are sizes such as 16GiB")
			}
			o.HostMemory = float64(v)
			return nil
		},
		"class": func(o *simulate.Options, s string) (err error) {
			o.Policy.Class, err = knowledge.ParseClass(s)
			return err
		},
	}
}

// simulateKeys are the keys of --set and of a policy file.
func simulateKeys() []string { return slices.Sorted(maps.Keys(simulateSetters())) }

// setOption puts "key=value" into the options.
func setOption(o *simulate.Options, text string) error {
	key, value, ok := strings.Cut(text, "=")
	key = strings.ReplaceAll(strings.TrimSpace(key), "-", "_")
	set := simulateSetters()[key]
	switch {
	case !ok:
		return fmt.Errorf("%q: the form is key=value", shorten(text))
	case set == nil:
		return fmt.Errorf("%q: unknown key, allowed are %s", shorten(key), strings.Join(simulateKeys(), ", "))
	}
	value = strings.Trim(strings.TrimSpace(value), `"`)
	if err := set(o, value); err != nil {
		return fmt.Errorf("%s %q: %w", key, shorten(value), err)
	}
	return nil
}

// readPolicy reads a file of key = value lines; "#" begins a comment.
func readPolicy(file string, o *simulate.Options) error {
	b, err := readBounded(file, maxPolicy)
	if err != nil {
		return fmt.Errorf("cannot read the policy: %w", err)
	}
	in := bufio.NewScanner(bytes.NewReader(b))
	in.Buffer(nil, maxPolicy+1)
	for n := 1; in.Scan(); n++ {
		line, _, _ := strings.Cut(in.Text(), "#")
		if strings.TrimSpace(line) == "" {
			continue
		}
		if err := setOption(o, line); err != nil {
			return Coded(ExitConfig, fmt.Errorf("%s:%d: %w", file, n, err))
		}
	}
	return in.Err()
}

// parseShare reads "70%" or "0.7".
func parseShare(s string) (float64, error) {
	number, percent := strings.CutSuffix(strings.TrimSpace(s), "%")
	v, err := strconv.ParseFloat(number, 64)
	if percent {
		v /= 100
	}
	if err != nil || !(v >= 0.01 && v <= 1) {
		return 0, errors.New("allowed are shares from 1% to 100%, such as 70% or 0.7")
	}
	return v, nil
}

// checkOptions checks the options together.
func checkOptions(o *simulate.Options) error {
	const most, longest = 10_000, 24 * time.Hour
	switch {
	case !(o.ReplicaCores >= 0.01 && o.ReplicaCores <= maxCores):
		return usagef("a replica of %g cores: allowed are 0.01 to %d", o.ReplicaCores, maxCores)
	case o.StartDelay < 0 || o.StartDelay > longest:
		return usagef("a start delay of %s: allowed are 0s to %s", o.StartDelay, longest)
	case o.Min < 1 || o.Max < o.Min || o.Max > most:
		return usagef("%d to %d replicas: allowed are 1 to %d, the fewest first", o.Min, o.Max, most)
	case o.HostCores > 0 && o.HostCores < o.ReplicaCores*float64(o.Min):
		return usagef("a host of %g cores is too small for %d replicas of %g", o.HostCores, o.Min, o.ReplicaCores)
	}
	return nil
}
