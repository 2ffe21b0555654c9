"""The little project of `holdfast demo`, and the plan that is run on it."""

from __future__ import annotations

FILES = {
    ".gitignore": "__pycache__/\n",
    "README.md": "# till\n\nA till that adds up prices in cents. Its tests: `python -m unittest`.\n",
    "till/__init__.py": '"""A till."""\n',
    "till/prices.py": '''\
"""Prices in cents."""


def total(prices: list[int]) -> int:
    return sum(prices)


def shown(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02}"
''',
    "tests/__init__.py": "",
    "tests/test_prices.py": """\
import unittest

from till.prices import shown, total


class Prices(unittest.TestCase):
    def test_total_adds_up(self):
        self.assertEqual(total([250, 199]), 449)

    def test_cents_are_shown_with_two_digits(self):
        self.assertEqual(shown(1205), "12.05")
""",
}

PLAN = """\
title: Teach the till discounts, tax and receipts
slug: till-features
description: The commands stand for coding agents; each writes real code, and its checks run the real tests.
variables:
  PYTHON: python3
  EFFECTS: /dev/null       # every task writes one line here: an effect outside of git, that must happen once
verify:
  - '"$PYTHON" -m unittest -q'
phases:
  - title: Prepare
    mode: sequential
    tasks:
      - title: Run the tests that are there
        key: baseline
        run: |
          "$PYTHON" -m unittest
          echo baseline >> "$EFFECTS"
      - title: Begin the changelog
        key: changelog
        depends_on: [baseline]
        run: |
          printf '# Changes\\n\\n' > CHANGES.md
          echo changelog >> "$EFFECTS"

  - title: Three features side by side
    mode: parallel
    tasks:
      - title: Discounts
        key: discounts
        run: |
          for part in 1 2 3 4; do echo "discounts: part $part of 4"; sleep 0.6; done
          cat > till/discounts.py <<'PY'
          def discounted(cents: int, percent: int) -> int:
              return cents - cents * percent // 100
          PY
          cat > tests/test_discounts.py <<'PY'
          import unittest

          from till.discounts import discounted


          class Discounts(unittest.TestCase):
              def test_ten_percent_off(self):
                  self.assertEqual(discounted(1000, 10), 900)
          PY
          echo discounts >> "$EFFECTS"
        verify: ['"$PYTHON" -m unittest -q tests.test_discounts']

      - title: Tax
        key: tax
        run: |
          for part in 1 2 3 4 5 6; do echo "tax: part $part of 6"; sleep 0.6; done
          cat > till/tax.py <<'PY'
          def with_tax(cents: int, percent: int = 19) -> int:
              return cents + round(cents * percent / 100)
          PY
          cat > tests/test_tax.py <<'PY'
          import unittest

          from till.tax import with_tax


          class Tax(unittest.TestCase):
              def test_tax_is_added(self):
                  self.assertEqual(with_tax(10000), 11900)
          PY
          echo tax >> "$EFFECTS"
        verify: ['"$PYTHON" -m unittest -q tests.test_tax']

      - title: Receipts
        key: receipts
        run: |
          for part in 1 2 3 4 5 6 7 8; do echo "receipts: part $part of 8"; sleep 0.6; done
          cat > till/receipts.py <<'PY'
          from till.prices import shown, total


          def receipt(prices: list[int]) -> str:
              return "\\n".join([*map(shown, prices), f"= {shown(total(prices))}"])
          PY
          cat > tests/test_receipts.py <<'PY'
          import unittest

          from till.receipts import receipt


          class Receipts(unittest.TestCase):
              def test_last_line_is_the_total(self):
                  self.assertEqual(receipt([100, 250]).splitlines()[-1], "= 3.50")
          PY
          echo receipts >> "$EFFECTS"
        verify: ['"$PYTHON" -m unittest -q tests.test_receipts']

  - title: Put together
    mode: sequential
    tasks:
      - title: Finish the changelog
        key: finish
        run: |
          ls till | grep -v -e __ -e prices | sed 's/^/- new: till\\//' >> CHANGES.md
          echo finish >> "$EFFECTS"
        verify: ['test "$(grep -c new: CHANGES.md)" = 3']
"""
