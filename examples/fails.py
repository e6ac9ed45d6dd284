"""Fails: matches payments with invoices until one matches none."""

INVOICES = {"2025-017": 450.00, "2025-018": 89.90, "2025-019": 1210.00}
PAYMENTS = [("2025-017", 450.00), ("2025-018", 89.90), ("2025-091", 1210.00)]


def main():
    for invoice, amount in PAYMENTS:
        if invoice not in INVOICES:
            raise LookupError(f"payment of {amount:.2f} names invoice {invoice}, which nobody sent")
        print(f"{invoice}  {amount:>10,.2f}  paid")


if __name__ == "__main__":
    main()
