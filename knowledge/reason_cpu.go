package knowledge

import "fmt"

// hardly is what is printed as 0.00 cores: it is said in words.
const hardly = OneCPU / 200

func boostWords(r Reason) string {
	if FromCores(r.Args[0]) < hardly {
		return fmt.Sprintf("throttled hard: %s cores in use, hardly more held back by a quota of %s", cores(r.Args[1]), cores(r.Args[2]))
	}
	return fmt.Sprintf("throttled hard: %s cores in use, about %s more held back by a quota of %s", cores(r.Args[1]), cores(r.Args[0]), cores(r.Args[2]))
}

func settledWords(r Reason) string {
	if FromCores(r.Args[1]*r.Args[2]) < hardly {
		return fmt.Sprintf("used at most %s cores in the last 5 s, and so steadily that hardly a margin is needed", cores(r.Args[0]))
	}
	return fmt.Sprintf("used at most %s cores in the last 5 s; with a margin of %s cores that is enough", cores(r.Args[0]), cores(r.Args[1]*r.Args[2]))
}
