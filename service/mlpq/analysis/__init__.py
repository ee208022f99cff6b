"""From records to findings: arms, comparisons, verdicts. No SQL, no rendering."""
