package config

import "strings"

// Suggest returns the candidate nearest to a misspelt word, or "". The
// distance counts single insertions, deletions, replacements and swaps of
// neighbours (optimal string alignment); up to a third of the word may differ.
func Suggest(word string, candidates []string) string {
	if len(word) == 0 || len(word) > 64 {
		return ""
	}
	a := fold(word)
	best, bestDistance := "", 1+max(1, min(3, len(a)/3))
	for _, c := range candidates {
		b := fold(c)
		if d := len(a) - len(b); d > 3 || d < -3 {
			continue
		}
		if d := distance(a, b); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// fold makes words equal that differ in case and separators only.
func fold(s string) string {
	return strings.NewReplacer("-", "_", ".", "_", " ", "_").Replace(strings.ToLower(s))
}

// distance is the optimal string alignment distance of two short strings.
func distance(a, b string) int {
	before, above, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above, row = above, row, before
	}
	return above[len(b)]
}

// didYouMean is the end of a sentence: "; did you mean …?" or nothing.
func didYouMean(word string, candidates []string) string {
	if s := Suggest(word, candidates); s != "" {
		return "; did you mean " + quote(s) + "?"
	}
	return ""
}
