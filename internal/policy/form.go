package policy

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// Form is what the value of a choice may be besides its words. Such a value is a number not below that of
// the words.
type Form struct {
	Usage string // what it looks like, for a list of what a setting accepts

	parse func(text string) (int64, error) // the error says what is accepted
	text  func(v int64) string             // as parse reads it
	check func(v int64) error              // an error if v is no value of the setting, the words included
}

// timeForm is a time, such as 500ms. The value is the number of words plus the milliseconds.
func timeForm(most time.Duration) func(words []string) Form {
	return func(words []string) Form {
		first := int64(len(words))
		return Form{
			Usage: "a time",
			parse: func(text string) (int64, error) {
				d, err := time.ParseDuration(text)
				if err != nil || d < 0 || d > most || d%time.Millisecond != 0 {
					return 0, errors.New("a time in whole milliseconds up to " + most.String() + ", such as 500ms")
				}
				return first + d.Milliseconds(), nil
			},
			text:  func(v int64) string { return (time.Duration(v-first) * time.Millisecond).String() },
			check: upTo(first + most.Milliseconds()),
		}
	}
}

// rateForm is the last word with a rate, such as pc/1000. The value is the number of words plus the rate's N,
// which is 1 to most.
func rateForm(most int64) func(words []string) Form {
	return func(words []string) Form {
		first, word := int64(len(words)), words[len(words)-1]
		return Form{
			Usage: word + "/N",
			parse: func(text string) (int64, error) {
				text, rate := strings.CutPrefix(strings.ToLower(text), word+"/")
				n, err := strconv.ParseInt(text, 10, 64)
				if !rate || err != nil || n < 1 || n > most {
					return 0, errors.New(word + "/N with a whole number N from 1 to " + strconv.FormatInt(most, 10))
				}
				return first + n, nil
			},
			text:  func(v int64) string { return word + "/" + strconv.FormatInt(v-first, 10) },
			check: upTo(first + most),
		}
	}
}

// upTo returns the check of a setting whose values are 0 to most.
func upTo(most int64) func(v int64) error {
	return func(v int64) error {
		if v < 0 || v > most {
			return errors.New("use a number from 0 to " + strconv.FormatInt(most, 10))
		}
		return nil
	}
}
