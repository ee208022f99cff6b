"""What a person sees: tables, progress, exports."""
