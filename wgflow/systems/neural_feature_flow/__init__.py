"""The neural feature flow of Fang, Lee, Yang and Zhang: deep networks as measures over the features of their units."""
